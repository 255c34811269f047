"""The built-in shell: what it gives back, and that nothing of a command is left."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from fusiond.config.schema import ShellSettings, ToolsSettings
from fusiond.protocol.tools import ToolOutcome
from fusiond.tools import sandbox
from fusiond.tools.builtin.shell import Shell
from fusiond.tools.calling import call
from tests.tools.one_call import one_call


@pytest.fixture(params=["auto", "off"])
def settings(request: pytest.FixtureRequest) -> ToolsSettings:
    return ToolsSettings(sandbox=request.param, max_output_bytes=1000, shell=ShellSettings(timeout_s=5))


def run(workspace: Path, settings: ToolsSettings, command: str, **more: Any) -> ToolOutcome:
    return one_call(settings, workspace, "shell", command=command, **more)


def test_a_command_runs_in_the_workspace_and_gives_its_output(
    tmp_path: Path, settings: ToolsSettings
) -> None:
    workspace = tmp_path / "work space"
    assert run(workspace, settings, "pwd; echo oops >&2").text == f"{workspace}\noops\n"
    assert run(workspace, settings, "echo hi > a.txt && cat a.txt").text == "hi\n"
    assert (workspace / "a.txt").read_text() == "hi\n"
    assert run(workspace, settings, "true").text == "(no output, exit status 0)"


def test_a_failure_is_told_with_its_status(tmp_path: Path, settings: ToolsSettings) -> None:
    outcome = run(tmp_path, settings, "echo no; exit 3")
    assert (outcome.kind, outcome.text) == ("error", "no\n(exit status 3)")


def test_an_unknown_command_is_told(tmp_path: Path, settings: ToolsSettings) -> None:
    outcome = run(tmp_path, settings, "no-such-command")
    assert outcome.kind == "error"
    assert "not found" in outcome.text
    assert "127" in outcome.text


def test_a_command_that_takes_too_long_is_ended_and_what_it_said_is_kept(
    tmp_path: Path, settings: ToolsSettings
) -> None:
    began = time.monotonic()
    outcome = run(tmp_path, settings, "echo begun; sleep 1000", timeout_s=0.3)
    assert outcome.text == "begun\n(ended: it was not done after 0.3 s)"
    assert time.monotonic() - began < 3


def test_it_may_ask_for_less_time_than_is_allowed_but_not_for_more(tmp_path: Path) -> None:
    settings = ToolsSettings(shell=ShellSettings(timeout_s=0.3))
    assert "after 0.3 s" in run(tmp_path, settings, "sleep 100", timeout_s=1000).text


def test_nothing_that_a_command_started_is_left(tmp_path: Path, settings: ToolsSettings) -> None:
    mark = str(random.randrange(10**6, 10**9))
    outcome = run(tmp_path, settings, f"sleep {mark} & setsid sleep {mark} & echo left two")
    assert outcome.text.startswith("left two")
    assert not [one for one in psutil.process_iter(["cmdline"]) if mark in (one.info["cmdline"] or [])]


def test_a_leftover_that_goes_on_printing_does_not_hold_up_the_end(
    tmp_path: Path, settings: ToolsSettings
) -> None:
    outcome = run(tmp_path, settings, "yes & true", timeout_s=3)
    assert outcome.ok
    assert "not done" not in outcome.text


def test_of_much_output_the_middle_is_left_out(tmp_path: Path, settings: ToolsSettings) -> None:
    outcome = run(tmp_path, settings, "echo begin; yes | head -c 5000000; echo end")
    assert outcome.text.startswith("begin\ny\n")
    assert outcome.text.endswith("y\nend\n")
    assert "bytes left out" in outcome.text
    assert len(outcome.text) < 1100


def test_input_ends_at_once(tmp_path: Path, settings: ToolsSettings) -> None:
    assert run(tmp_path, settings, "cat; echo over").text == "over\n"


def test_output_that_is_no_text_is_shown_all_the_same(tmp_path: Path, settings: ToolsSettings) -> None:
    assert "�" in run(tmp_path, settings, r"printf '\377\376'").text


def test_the_environment_holds_nothing_of_ours(tmp_path: Path, settings: ToolsSettings) -> None:
    ours = {**os.environ, "OPENAI_API_KEY": "hidden-4711"}
    outcome = one_call(settings, tmp_path, "shell", ours, command="env")
    names = {line.partition("=")[0] for line in outcome.text.splitlines()}
    assert names <= {"PATH", "HOME", "LANG", "TERM", "TMPDIR", "PWD", "SHLVL", "_"}


def test_without_isolation_where_some_is_required_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "available", lambda: "none")
    shell = Shell(str(tmp_path), ToolsSettings(sandbox="required"))
    outcome = call(shell, b'{"command": "touch done"}')
    assert (outcome.kind, "install bubblewrap" in outcome.text) == ("error", True)
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize("command", ["", "  ", "echo a\0b"])
def test_what_is_no_command_is_refused(tmp_path: Path, command: str) -> None:
    assert run(tmp_path, ToolsSettings(), command).kind == "invalid"


def test_a_list_of_what_is_allowed_is_told_to_the_model_and_held_to(tmp_path: Path) -> None:
    settings = ToolsSettings(shell=ShellSettings(allow=["ls", "git status"]))
    assert "ls, git status" in Shell(str(tmp_path), settings).metadata().description
    assert run(tmp_path, settings, "ls | ls -a").ok
    for command in ("ls; rm -rf x", "ls $(touch x)", "git push", "cat x", "lsof"):
        outcome = run(tmp_path, settings, command)
        assert outcome.kind == "invalid", command
