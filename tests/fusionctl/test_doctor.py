"""`fusionctl doctor` finds what is wrong, says what to do, changes nothing and starts nothing."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fusionctl.cli import run
from fusionctl.doctor import examine
from fusionctl.doctor.case import Case
from fusionctl.doctor.finding import Finding
from fusiond.paths import resolve
from tests.fusionctl.findings import ELSEWHERE, checked, look, of, wrong
from tests.fusionctl.terminal import ended, terminal
from tests.fusionctl.test_other_version import daemon as daemon
from tests.tree import Tree, eventually


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("FUSION_", "OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)


# --- nothing there, everything broken ------------------------------------------------------------------------


def test_an_empty_home_is_well_and_stays_empty(tree: Tree) -> None:
    done = tree.run("doctor", "--json")
    findings = checked(done.stdout, done.returncode)
    assert done.returncode == 0, done.stdout
    assert "none is running" in of(findings, "daemon")["detail"]
    assert list(tree.home.iterdir()) == []
    assert tree.processes() == []


def test_a_wrong_configuration_is_told_with_every_problem_and_its_line(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "config.toml").write_text('[router]\nqueue_sise = 7\n[sessions]\nstorage = "disc"\n')
    findings = look(home, capsys)
    first, second = wrong(findings, "configuration")
    assert "line 2: unknown key router.queue_sise (did you mean router.queue_size?)" in first["detail"]
    assert "line 4" in second["detail"]
    assert wrong(findings, "model")
    assert wrong(findings, "provider")
    assert of(findings, "database")["ok"]


def test_the_environment_and_each_key_file_are_part_of_the_configuration(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "config.toml").write_text(
        f'{ELSEWHERE}api_key_file = "none"\n[providers.openai]\napi_key_file = "neither"\n'
    )
    first, second = wrong(look(home, capsys), "configuration")
    assert "neither" in first["detail"] + second["detail"]
    assert "none" in first["detail"] + second["detail"]
    monkeypatch.setenv("FUSION_MODEL", "nowhere/x")
    (only,) = wrong(look(home, capsys), "configuration")
    assert "FUSION_MODEL" in only["detail"]


def test_a_home_that_is_a_file_is_told_and_nothing_else_fails(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = home / "file"
    file.write_text("")
    findings = look(file, capsys)
    assert f"{file} is not a folder" in wrong(findings, "paths")[0]["detail"]
    assert not any("report it" in finding["advice"] for finding in findings)


def test_a_home_that_cannot_be_resolved_is_a_finding_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--home", "", "doctor", "--json"]) == 1
    assert "--home is empty" in json.loads(capsys.readouterr().out)[0]["detail"]


def test_a_check_that_fails_is_a_finding_and_leaves_the_others_alone(home: Path) -> None:
    def broken(_: Case) -> Any:
        yield Finding("x", True, "so far so good")
        raise ZeroDivisionError("secret")

    first, second = examine.findings("x", broken, Case(resolve(home), {}))
    assert first.ok
    assert (second.ok, second.detail) == (False, "this check failed: ZeroDivisionError")


# --- paths -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mode"), [("run", 0o755), ("state", 0o777), ("config.toml", 0o666), ("key", 0o644)]
)
def test_what_is_open_to_others_is_told_and_the_advice_closes_it(
    home: Path, capsys: pytest.CaptureFixture[str], name: str, mode: int
) -> None:
    for folder in ("run", "state"):
        (home / folder).mkdir(mode=0o700)
    (home / "config.toml").write_text(f'{ELSEWHERE}api_key_file = "key"\n')
    (home / "key").write_text("abc")
    (home / "key").chmod(0o600)
    (home / name).chmod(mode)
    (finding,) = wrong(look(home, capsys), "paths")
    assert f"{home / name} can be " in finding["detail"]
    assert f"mode {mode:04o}" in finding["detail"]
    subprocess.run(shlex.split(finding["advice"]), check=True)
    assert wrong(look(home, capsys), "paths") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_another_users_home_is_told_and_no_check_fails(tree: Tree) -> None:
    tree.configure(ELSEWHERE)
    tree.start()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:  # somebody else, who cannot read the interpreter's files either: what is imported must do
        try:
            os.setgid(65534)
            os.setuid(65534)
            os.write(writer, msgspec.json.encode(examine.examine(str(tree.home))))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        findings = checked(answer.read(), 1)
    os.waitpid(pid, 0)
    assert wrong(findings, "paths")
    assert "is not open to you" in of(findings, "daemon")["detail"]
    assert not any("report it" in finding["advice"] for finding in findings)


# --- the daemon and what it left ---------------------------------------------------------------------------------


def test_a_daemon_that_is_well_is_well(tree: Tree) -> None:
    tree.configure(ELSEWHERE)
    tree.start()
    done = tree.run("doctor", "--json")
    findings = checked(done.stdout, done.returncode)
    assert [finding["check"] for finding in findings if not finding["ok"]] == ["provider"]
    assert f"pid {tree.supervisor}" in of(findings, "daemon")["detail"]
    assert "router.sock" in of(findings, "sockets")["detail"]
    (tree.home / "run" / "router.sock").unlink()
    findings = tree.json("doctor")
    assert "router.sock" in wrong(findings, "sockets")[0]["detail"]


def test_what_a_killed_daemon_left_is_told_and_the_advice_removes_it(tree: Tree) -> None:
    tree.configure(ELSEWHERE)
    tree.start()
    pid = tree.supervisor
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not tree.processes())
    (finding,) = wrong(tree.json("doctor"), "sockets")
    for name in ("router.sock", "supervisor.sock", "actors.sock", "fusiond.lock", f"pid {pid}"):
        assert name in finding["detail"]
    subprocess.run(shlex.split(finding["advice"].partition("or: ")[2]), check=True)
    assert wrong(tree.json("doctor"), "sockets") == []


def test_a_daemon_whose_folder_was_cleared_away_is_found_all_the_same(tree: Tree) -> None:
    tree.configure(ELSEWHERE)
    tree.start()
    pid = tree.supervisor
    shutil.rmtree(tree.home / "run")
    (finding,) = wrong(tree.json("doctor"), "daemon")
    assert finding["detail"].startswith(f"pid {pid} runs for {tree.home}")
    subprocess.run(shlex.split(finding["advice"].partition(": ")[2]), check=True)
    eventually(lambda: not tree.processes())
    assert wrong(tree.json("doctor"), "daemon") == []


def test_sockets_that_nobody_listens_at_and_temporary_files_are_told(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("run", "run/llm.1", "state"):
        (home / folder).mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead, socket.socket(socket.AF_UNIX) as alive:
        dead.bind(str(home / "run/llm.0.model.sock"))
        alive.bind(str(home / "run/llm.1/model.sock"))
        alive.listen()
        (home / "state/results.tmp").write_text("")
        findings = wrong(look(home, capsys), "sockets")
    told = " ".join(finding["detail"] for finding in findings)
    assert "llm.0.model.sock" in told
    assert "results.tmp" in told
    assert "left behind: model.sock" not in told


def test_a_stopped_daemon_is_told_and_neither_woken_nor_ended(tree: Tree) -> None:
    tree.configure(ELSEWHERE)
    tree.start()
    pid = tree.supervisor
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        (finding,) = wrong(tree.json("doctor"), "daemon")
        assert "is stopped by a signal" in finding["detail"]
        assert "fusionctl stop" in finding["advice"]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert tree.supervisor == pid


@pytest.mark.usefixtures("daemon")
def test_a_daemon_of_another_version_is_told(tree: Tree) -> None:
    (finding,) = wrong(tree.json("doctor"), "version")
    assert "protocol version 99" in finding["detail"]
    assert "fusionctl stop && fusionctl start" in finding["advice"]


def test_an_actor_that_does_not_start_is_told_with_its_reason(tree: Tree, home: Path) -> None:
    model = home / "mine.gguf"
    model.write_bytes(b"GGUF")
    tree.ok("models", "add", "mine", str(model))
    model.unlink()
    tree.configure('model = "local/mine"\n')
    tree.start()
    eventually(lambda: tree.actor("llm.0")["state"] == "failed")
    findings = tree.json("doctor")
    (finding,) = [each for each in wrong(findings, "daemon") if "llm.0" in each["detail"]]
    assert "mine.gguf" in finding["detail"]
    assert finding["advice"] == "see: fusionctl logs llm.0"
    assert "mine.gguf" in wrong(findings, "model")[0]["detail"]


# --- whose environment configured it -------------------------------------------------------------------------------


def test_a_daemon_keeps_its_environment_and_every_difference_is_told(tree: Tree) -> None:
    tree.configure(f'{ELSEWHERE}api_key_env = "LAB_KEY"\n')
    tree.environment |= {"ANTHROPIC_API_KEY": "sk-theirs", "FUSION_LOG_LEVEL": "debug"}
    tree.start()
    assert wrong(tree.json("doctor"), "environment") == []
    del tree.environment["ANTHROPIC_API_KEY"]
    tree.environment |= {
        "OPENAI_API_KEY": "sk-ours",
        "LAB_KEY": "sk-lab",
        "FUSION_LOG_LEVEL": "INFO",
        "OPENAI_BASE_URL": "http://me:password@localhost/v1?key=hidden",
    }
    done = tree.run("doctor", "--json")
    findings = checked(done.stdout, done.returncode)
    told = {finding["detail"] for finding in wrong(findings, "environment")}
    assert told == {
        "the running daemon was started without OPENAI_API_KEY, which is set here",
        "the running daemon was started without LAB_KEY, which is set here",
        "the running daemon was started with FUSION_LOG_LEVEL=debug, which is INFO here",
        "the running daemon was started without OPENAI_BASE_URL, which is http://***@localhost/v1?*** here",
    }
    assert "fusionctl stop && fusionctl start" in wrong(findings, "environment")[0]["advice"]
    (worth_knowing,) = [each for each in findings if each["check"] == "environment" and each["ok"]]
    assert "started with ANTHROPIC_API_KEY, which is not set here" in worth_knowing["detail"]
    assert not any(word in done.stdout for word in ("sk-", "password", "hidden"))


def test_a_file_that_the_daemon_has_not_read_yet_is_told(tree: Tree) -> None:
    tree.configure(ELSEWHERE)
    tree.start()
    assert wrong(tree.json("doctor"), "configuration") == []
    tree.configure(f"{ELSEWHERE}[router]\nqueue_size = 7\n")
    (finding,) = wrong(tree.json("doctor"), "configuration")
    assert "changed after the daemon had read it" in finding["detail"]
    assert finding["advice"] == "fusionctl reload"
    tree.ok("reload")
    assert wrong(tree.json("doctor"), "configuration") == []


# --- for a person -----------------------------------------------------------------------------------------------------


def test_a_person_reads_a_line_for_each_finding_and_colour_only_on_a_terminal(tree: Tree) -> None:
    tree.configure(ELSEWHERE)
    done = tree.run("doctor")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == len(tree.json("doctor"))
    (bad,) = [line for line in done.stdout.splitlines() if not line.startswith("✅")]
    assert bad.startswith("❌ provider")
    assert " — " in bad
    with terminal(tree, "doctor") as child:
        assert ended(child) == 1
        assert "\x1b[31m" in child.before
