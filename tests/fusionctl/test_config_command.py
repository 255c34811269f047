"""`fusionctl config` answers on standard output, complains on standard error, and exits as documented."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path

import pytest

from fusionctl.cli import run
from fusiond.config import DEFAULT_TOML, check

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (
        "FUSION_MODEL",
        "FUSION_HOME",
        "FUSION_CONFIG",
        "FUSION_LOG_LEVEL",
        "FUSION_DEBUG",
        "CREDENTIALS_DIRECTORY",
    )
    for name in (
        *names,
        *(f"{who}_{what}" for who in ("OPENAI", "ANTHROPIC") for what in ("API_KEY", "BASE_URL")),
    ):
        monkeypatch.delenv(name, raising=False)


def config(home: Path, *args: str) -> int:
    return run(["--home", str(home), "config", *args])


def test_path_prints_where_the_file_is_or_would_be(tmp_path: Path, capsys: Output) -> None:
    assert config(tmp_path, "path") == 0
    assert capsys.readouterr().out == f"{tmp_path}/config.toml\n"


def test_path_obeys_the_environment(tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_CONFIG", str(tmp_path / "mine.toml"))
    assert run(["config", "path"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/mine.toml\n"


def test_show_writes_what_is_in_effect_as_a_right_file(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    (tmp_path / "config.toml").write_text("router.queue_size = 7")
    assert config(tmp_path, "show") == 0
    text = capsys.readouterr().out
    assert text.startswith(f"# from {tmp_path}/config.toml\n")
    assert check(text) == []
    tables = tomllib.loads(text)
    assert tables["router"]["queue_size"] == 7
    assert tables["supervisor"]["heartbeat_interval_ms"] == 250
    assert tables["model"].startswith("openai/")
    assert "secret" not in text


def test_show_as_json_is_one_document_and_nothing_else(tmp_path: Path, capsys: Output) -> None:
    assert config(tmp_path, "show", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["model"] == "local/smollm2"
    assert err == ""


def test_show_of_a_wrong_file_is_one_line_and_exit_78(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "config.toml").write_text("[router]\nqueue_sise = 7")
    assert config(tmp_path, "show") == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"error: {tmp_path}/config.toml line 2: unknown key router.queue_sise (did you mean router.queue_size?)\n"
    )


def test_check_says_every_problem_on_a_line_of_its_own(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "config.toml").write_text("[router]\nqueue_sise = 7\n[sessions]\nstorage = 'disc'")
    assert config(tmp_path, "check") == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"{tmp_path}/config.toml line 2: unknown key router.queue_sise (did you mean router.queue_size?)",
        f'{tmp_path}/config.toml line 4: sessions.storage must be "disk" or "memory", not "disc" (did you mean disk?)',
    ]


def test_check_says_problems_as_json(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "config.toml").write_text("queue_size = 7")
    assert config(tmp_path, "check", "--json") == 78
    out, err = capsys.readouterr()
    assert json.loads(out) == [
        {"key": "queue_size", "line": 1, "message": "unknown key queue_size", "nearest": "router.queue_size"}
    ]
    assert err == ""


def test_check_of_a_right_file_says_ok(tmp_path: Path, capsys: Output) -> None:
    assert config(tmp_path, "check") == 0
    assert capsys.readouterr().out == f"{tmp_path}/config.toml does not exist: the defaults apply\n"
    (tmp_path / "config.toml").write_text(DEFAULT_TOML)
    assert config(tmp_path, "check") == 0
    assert capsys.readouterr().out == f"{tmp_path}/config.toml: ok\n"
    assert config(tmp_path, "check", "--json") == 0
    assert capsys.readouterr().out == "[]\n"


def test_check_looks_at_the_environment_and_the_key_files_too(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text("providers.openai.api_key_file = 'none'")
    assert config(tmp_path, "check") == 78
    assert "none, does not exist" in capsys.readouterr().err
    monkeypatch.setenv("FUSION_MODEL", "nowhere/x")
    assert config(tmp_path, "check") == 78
    assert "FUSION_MODEL names no provider" in capsys.readouterr().err


def test_init_writes_a_file_and_the_folders_for_it(tmp_path: Path, capsys: Output) -> None:
    home = tmp_path / "new/home"
    assert config(home, "init") == 0
    assert capsys.readouterr().out == f"wrote {home}/config.toml\n"
    assert (home / "config.toml").read_text("utf-8") == DEFAULT_TOML
    assert [file.name for file in home.iterdir()] == ["config.toml"]


def test_init_replaces_nothing_unless_forced(tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "config.toml"
    file.write_text("model = 'local/mine'")
    file.chmod(0o640)
    assert config(tmp_path, "init") == 1
    assert capsys.readouterr().err == f"error: {file} is there already — --force replaces it\n"
    assert file.read_text() == "model = 'local/mine'"
    assert config(tmp_path, "init", "--force") == 0
    assert file.read_text("utf-8") == DEFAULT_TOML
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_init_follows_a_link_and_leaves_it_a_link(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / "config.toml").symlink_to("dotfiles/fusion.toml")
    assert config(tmp_path, "init") == 0
    assert (tmp_path / "config.toml").is_symlink()
    assert (tmp_path / "dotfiles/fusion.toml").read_text("utf-8") == DEFAULT_TOML


def test_init_says_what_stands_in_the_way(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "file").write_text("")
    assert config(tmp_path / "file", "init") == 78
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/file is not a folder")


@pytest.mark.parametrize("command", ["show", "check", "path", "init"])
def test_help_has_an_example(command: str, tmp_path: Path, capsys: Output) -> None:
    assert config(tmp_path, command, "--help") == 0
    assert "Example: " in capsys.readouterr().out
