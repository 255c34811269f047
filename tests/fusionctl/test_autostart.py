"""Finding and starting: what needs no daemon to be tested, and where a daemon is looked for."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import psutil
import pytest

from fusionctl import autostart, homes
from fusionctl.holder import Holder
from fusiond.errors import ConfigError, Denied
from fusiond.paths import service_paths
from tests.tree import Tree, eventually


class Silent(NamedTuple):
    """A supervisor that does not answer."""

    state: str
    age: float = 3600.0


@pytest.mark.parametrize(
    ("silent", "silences", "hung"),
    [
        (Silent("T"), 1, True),
        (Silent("t"), 1, True),
        (Silent("T", age=1), 1, True),
        (Silent("S"), 1, True),
        (Silent("S", age=1), 5, False),
        (Silent("R"), 2, False),
        (Silent("D"), 2, False),
        (Silent("R"), 3, True),
        (Silent("Z"), 1, True),
    ],
)
def test_a_silent_supervisor_is_hung_unless_it_starts_or_waits_for_the_processor(
    silent: Silent, silences: int, hung: bool
) -> None:
    assert autostart.is_hung(cast(Holder, silent), silences) is hung


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (78, ConfigError, "line 3: no key 'modle'"),
        (77, Denied, "line 3: no key 'modle'"),
        (1, Exception, "the daemon ended while it started (exit 1): line 3: no key 'modle'"),
        (-9, Exception, "the daemon ended while it started (killed by signal 9): line 3: no key 'modle'"),
    ],
)
def test_the_last_words_of_a_daemon_become_the_error(
    tmp_path: Path, code: int, kind: type[Exception], text: str
) -> None:
    log = tmp_path / "fusiond.log"
    log.write_text("fusiond: of an earlier start\n")
    start = log.stat().st_size
    with log.open("a") as file:
        file.write("2026-11-22T14:22:01.872Z INFO    hello\nfusiond: line 3: no key 'modle'\n")
    error = autostart.last_words(log, start, code)
    assert isinstance(error, kind)
    assert error.message == text


def test_a_daemon_that_dies_without_a_word_leads_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "fusiond.log"
    log.write_text("")
    assert str(autostart.last_words(log, 0, -11)) == (
        f"the daemon ended while it started (killed by signal 11): it said nothing — its log: {log}"
    )


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands in for the system service's `/run/fusion`."""
    run = tmp_path / "service"
    monkeypatch.setattr(homes, "service_paths", lambda: replace(service_paths(), run=run))
    monkeypatch.delenv("FUSION_HOME", raising=False)
    return run


def test_a_named_home_is_the_only_one(service: Path, tmp_path: Path) -> None:
    service.mkdir()
    assert [paths.home for paths in homes.candidates(str(tmp_path / "mine"))] == [tmp_path / "mine"]


def test_without_a_name_the_users_own_comes_before_the_service(service: Path) -> None:
    assert len(homes.candidates(None)) == 1
    service.mkdir()
    own, other = homes.candidates(None)
    assert (own.run != service, other.run) == (True, service)


def test_variables_that_name_folders_are_made_absolute_for_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUSION_MODELS", "models")
    monkeypatch.setenv("FUSION_CONFIG", "")
    environment = autostart.environment()
    assert environment["FUSION_MODELS"] == str(tmp_path / "models")
    assert environment["FUSION_CONFIG"] == ""


def test_a_relative_home_is_the_same_for_client_and_daemon(tree: Tree) -> None:
    done = tree.run("start", FUSION_HOME=".")
    assert done.returncode == 0
    assert tree.supervisor is not None


def test_the_daemon_has_nothing_of_the_terminal_it_was_started_from(tree: Tree) -> None:
    tree.start()
    supervisor = tree.supervisor
    assert supervisor is not None
    process = psutil.Process(supervisor)
    assert process.cwd() == "/"
    assert process.terminal() is None
    assert os.getsid(supervisor) == supervisor
    assert Path(f"/proc/{supervisor}/fd/0").readlink() == Path("/dev/null")
    log = tree.home / "state" / "logs" / "fusiond.log"
    assert Path(f"/proc/{supervisor}/fd/2").readlink() == log
    assert log.stat().st_mode & 0o077 == 0
    os.killpg(os.getpgid(0), signal.SIGCONT)  # a signal to our group does not reach it
    assert tree.supervisor == supervisor


def test_a_daemon_that_is_killed_while_it_starts_is_started_again(tree: Tree) -> None:
    starting = tree.popen("start")
    (pid,) = eventually(lambda: {each.pid for each in tree.processes()} - {starting.pid})
    os.kill(pid, signal.SIGKILL)
    _, err = starting.communicate(timeout=30)
    assert starting.returncode == 0, err
    assert f"the daemon (pid {pid}) was ended by signal 9 while it started: starting the daemon (pid " in err
