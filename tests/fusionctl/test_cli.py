from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fusionctl.cli import COMMANDS, cli, run
from fusionctl.commands.chat import join, option_value, valid
from fusionctl.commands.kill import signal_name
from tests.tree import Tree


def imported_by(*args: str) -> set[str]:
    """The modules that `fusionctl ARGS` imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "fusionctl", *args],
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }


def test_help_imports_neither_sockets_nor_a_loop_nor_anything_to_draw_with() -> None:
    modules = imported_by("--help")
    assert "click" in modules
    assert not modules & {"zmq", "asyncio", "rich", "prompt_toolkit", "msgspec", "subprocess"}


def test_health_imports_no_loop_and_nothing_to_draw_with(home: Path) -> None:
    modules = imported_by("--home", str(home), "health")
    assert "zmq" in modules
    assert not modules & {
        "asyncio",
        "rich",
        "prompt_toolkit",
        "httpx",
        "psutil",
        "platformdirs",
        "subprocess",
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert "Example: " in capsys.readouterr().out


def test_every_command_is_listed_in_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)


def test_a_command_that_does_not_exist_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["helth"]) == 2
    assert capsys.readouterr().err == "error: there is no command 'helth' — did you mean 'health'?\n"


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["--nonsense"],
        ["kill"],
        ["health", "--watch", "often"],
        ["health", "extra"],
        ["completion", "csh"],
    ],
)
def test_a_usage_error_is_one_line_and_exit_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_without_a_command_the_help_is_shown_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Usage: fusionctl" in err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("fusionctl ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_completion_script_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert "_FUSIONCTL_COMPLETE" in capsys.readouterr().out


def test_the_tab_key_completes_commands(tree: Tree) -> None:
    done = tree.run(_FUSIONCTL_COMPLETE="bash_complete", COMP_WORDS="fusionctl he", COMP_CWORD="1")
    assert done.stdout.strip() == "plain,health"


def test_an_error_of_ours_is_no_traceback_unless_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr(cli, "invoke", broken)
    assert run(["health"]) == 1
    assert capsys.readouterr().err.startswith("error: internal error, ZeroDivisionError: oh no — ")
    monkeypatch.setenv("FUSION_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run(["health"])


def test_a_reader_that_goes_away_is_no_error(tree: Tree) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m fusionctl --help | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        env=tree.environment,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "141")


@pytest.mark.parametrize("given", ["KILL", "kill", "SIGKILL", "sigkill", "9"])
def test_a_signal_may_be_written_in_many_ways(given: str) -> None:
    assert signal_name(given) == "KILL"


def test_a_signal_that_does_not_exist_names_the_nearest(tree: Tree) -> None:
    done = tree.run("kill", "store", "--signal", "SEGF")
    assert done.returncode == 2
    assert "did you mean SEGV?" in done.stderr


@pytest.mark.parametrize(
    ("prompt", "piped", "whole"),
    [
        ("ask", "text\n", "ask\n\ntext"),
        ("ask", "", "ask"),
        (None, "text\n", "text"),
        (None, "", ""),
        ("a", "\n", "a"),
    ],
)
def test_the_prompt_comes_before_what_is_piped_in(prompt: str | None, piped: str, whole: str) -> None:
    assert join(prompt, piped) == whole


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.2", 0.2), ("true", True), ('["\\n"]', ["\n"]), ("high", "high"), ("", ""), ("1e", "1e")],
)
def test_an_option_is_json_where_it_reads_as_json(text: str, value: object) -> None:
    assert option_value(text) == value


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    assert valid("caf\udce9") == "caf\ufffd"
