"""What `fusionctl doctor` says of the model on this machine, of the database, and of the machine's limits."""

from __future__ import annotations

import hashlib
import os
import shlex
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fusionctl.doctor import database, limits
from fusiond.models import SMOLLM2
from fusiond.models.registry import PINNED
from fusiond.storage import schema
from fusiond.storage.database import Database
from tests.fusionctl.findings import ELSEWHERE, checked, look, of, wrong
from tests.tree import Tree


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("FUSION_", "OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)


# --- the embedded model -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "ok", "words"),
    [
        (None, True, "not on this machine yet"),
        (b"GGU", False, "is damaged"),
        (b"gguf", False, "SHA-256"),
        (b"GGUF", True, "SHA-256 right"),
    ],
)
def test_the_embedded_models_file_is_compared_with_what_it_should_be(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    content: bytes | None,
    ok: bool,
    words: str,
) -> None:
    small = SMOLLM2._replace(size=4, sha256=hashlib.sha256(b"GGUF").hexdigest())
    monkeypatch.setitem(PINNED, "smollm2", small)
    (home / "models").mkdir()
    if content is not None:
        (home / "models" / small.file).write_bytes(content)
    findings = look(home, capsys)
    about_file = next(finding for finding in findings if finding["check"] == "model")
    assert (about_file["ok"], words in about_file["detail"]) == (ok, True), about_file
    if "right" not in words:
        assert f"fusionctl --home '{home}' models pull" in about_file["advice"]
    assert "none is asked" in of(findings, "provider")["detail"]


def test_a_library_that_does_not_load_is_told_with_its_reason(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = home / "lib"
    library.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(library))
    (library / "xllamacpp.py").write_text('raise ImportError("built for another planet")')
    (finding,) = wrong(look(home, capsys), "model")
    assert "ImportError: built for another planet" in finding["detail"]
    (library / "xllamacpp.py").write_text("import os; os.kill(os.getpid(), 4)")
    (finding,) = wrong(look(home, capsys), "model")
    assert "killed by signal 4" in finding["detail"]


# --- the database -----------------------------------------------------------------------------------------------------


def test_what_doctor_knows_of_the_database_is_what_the_store_writes() -> None:
    assert (schema.APPLICATION_ID, len(schema.MIGRATIONS)) == (database.APPLICATION_ID, database.SCHEMA)


def make_database(home: Path) -> Path:
    (home / "config.toml").write_text(ELSEWHERE)
    (home / "state").mkdir(mode=0o700)
    path = home / "state" / "fusion.db"
    store = Database(str(path))
    store.open()
    store.close()
    return path


def test_a_whole_database_is_well_and_nothing_is_made_beside_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_database(home)
    before = path.read_bytes()
    assert "whole" in of(look(home, capsys), "database")["detail"]
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 : 2 * 4096] = bytes(4096)
    path.write_bytes(content)


def no_database(path: Path) -> None:
    path.write_bytes(b"nothing of the sort" * 1000)


def of_tomorrow(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 999")


def of_another(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA application_id = 1")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (spoil, "is damaged"),
        (no_database, "file is not a database"),
        (of_tomorrow, "newer Fusion (schema 999"),
        (of_another, "belongs to another program"),
    ],
)
def test_what_is_wrong_with_a_database_is_told(
    home: Path, capsys: pytest.CaptureFixture[str], harm: Any, words: str
) -> None:
    harm(make_database(home))
    (finding,) = wrong(look(home, capsys), "database")
    assert words in finding["detail"]


# --- limits -----------------------------------------------------------------------------------------------------------


def test_the_limit_of_open_files_is_the_daemons(tree: Tree) -> None:
    tree.configure(ELSEWHERE)
    tree.start()
    assert f"the daemon (pid {tree.supervisor}) may open" in of(tree.json("doctor"), "files")["detail"]
    limited = ["bash", "-c", f"ulimit -n 300; exec {shlex.join(tree.command)} doctor --json"]
    tree.ok("stop")
    done = subprocess.run(limited, env=tree.environment, capture_output=True, text=True)
    (finding,) = wrong(checked(done.stdout, done.returncode), "files")
    assert "may open 300 files" in finding["detail"]


def test_memory_is_what_is_left_of_the_machine_or_of_the_container(tmp_path: Path) -> None:
    machine = tmp_path / "meminfo"
    machine.write_text("MemTotal: 100 kB\nMemAvailable:  50 kB\n")
    assert limits.memory_available(machine, tmp_path) == 50 * 1024
    (tmp_path / "memory.max").write_text("30000\n")
    (tmp_path / "memory.current").write_text("10000\n")
    assert limits.memory_available(machine, tmp_path) == 20000
    (tmp_path / "memory.max").write_text("max\n")
    assert limits.memory_available(machine, tmp_path) == 50 * 1024
    assert limits.memory_available(tmp_path / "none", tmp_path) is None


def test_too_little_memory_for_the_model_is_told(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "memory_available", lambda: 500_000_000)
    assert wrong(look(home, capsys), "memory"), "a model and its twin take more"
    (home / "config.toml").write_text(ELSEWHERE)
    assert wrong(look(home, capsys), "memory") == []
