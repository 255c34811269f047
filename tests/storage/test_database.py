"""Real files, real disks: what may be wrong with them, and that nothing written before is lost."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fusiond.errors import ConfigError, StorageError
from fusiond.storage import schema
from fusiond.storage.database import Database
from fusiond.storage.faults import Locked

Write = Callable[[sqlite3.Connection], object]


def adds(id: str, text: str = "") -> Write:
    return lambda db: (
        db.execute("INSERT INTO sessions VALUES (NULL, ?, 0, 0, '', '', ?)", (id, text)).lastrowid
    )


def sessions_in(database: Database) -> list[str]:
    return database.read(lambda db: [id for (id,) in db.execute("SELECT id FROM sessions ORDER BY n")])


def sizes_in(database: Database) -> int:
    total: int = database.read(lambda db: db.execute("SELECT sum(length(title)) FROM sessions").fetchone())[0]
    return total


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fusion.db"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small disk here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def refusal(database: Database) -> StorageError:
    with pytest.raises(StorageError) as refused:
        database.open()
    assert refused.value.advice
    assert "\n" not in str(refused.value)
    return refused.value


# --- the file -------------------------------------------------------------------------------------


def test_the_database_and_its_companions_are_for_their_owner_only(path: Path) -> None:
    with closing(Database(str(path))) as database:
        database.commit([adds("a")])
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"fusion.db": 0o600, "fusion.db-wal": 0o600, "fusion.db-shm": 0o600}


@pytest.mark.parametrize(("synchronous", "pragma"), [("NORMAL", 1), ("full", 2)])
def test_it_is_as_durable_as_configured(path: Path, synchronous: str, pragma: int) -> None:
    with closing(Database(str(path), synchronous)) as database:
        assert database.read(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (pragma,)
        assert database.read(lambda db: db.execute("PRAGMA journal_mode").fetchone()) == ("wal",)


def test_an_unknown_durability_is_refused() -> None:
    with pytest.raises(ConfigError, match='synchronous is "off"'):
        Database("", "off")


def test_what_was_committed_is_there_when_opened_again(path: Path) -> None:
    with closing(Database(str(path))) as database:
        database.commit([adds("a"), adds("b")])
    with closing(Database(str(path))) as database:
        assert sessions_in(database) == ["a", "b"]


def test_in_memory_no_file_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(Database("")) as database:
        database.commit([adds("a")])
        assert sessions_in(database) == ["a"]
    assert list(tmp_path.iterdir()) == []


# --- one transaction for several writes -----------------------------------------------------------


def test_the_error_of_one_write_undoes_that_one_only() -> None:
    def fails(db: sqlite3.Connection) -> None:
        adds("half")(db)
        raise KeyError("this one")

    with closing(Database("")) as database:
        first, error, duplicate, last = database.commit([adds("a"), fails, adds("a"), adds("b")])
        assert (first, last) == (1, 2)
        assert isinstance(error, KeyError)
        assert isinstance(duplicate, StorageError)
        assert sessions_in(database) == ["a", "b"]


# --- files that are not ours to open --------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"not a database", b"x", b"SQLite format 3\0" + b"\xff" * 5000, b"\0" * 4096]
)
def test_a_damaged_file_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    error = refusal(Database(str(path)))
    assert f"the database {path} is damaged" in error.message
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["fusion.db"]


def test_damage_found_later_is_reported_until_the_file_is_repaired(path: Path) -> None:
    with closing(Database(str(path))) as database:
        database.commit([adds(f"{n:05}", "x" * 500) for n in range(100)])
    whole = path.read_bytes()
    half = len(whole) // 2
    with closing(Database(str(path))) as database:
        database.open()
        path.write_bytes(whole[:half] + b"\xff" * half)
        for _ in range(2):
            with pytest.raises(StorageError, match="is damaged"):
                sizes_in(database)
        path.write_bytes(whole)
        assert sizes_in(database) == 50_000


def test_an_empty_file_is_a_new_database(path: Path) -> None:
    path.touch()
    with closing(Database(str(path))) as database:
        assert sessions_in(database) == []


def test_a_log_without_its_database_is_not_thrown_away(path: Path) -> None:
    log = path.with_name("fusion.db-wal")
    log.write_bytes(b"committed, and not yet in the file")
    assert "its log fusion.db-wal is there" in refusal(Database(str(path))).message
    assert log.read_bytes() == b"committed, and not yet in the file"
    assert not path.exists()


def test_a_newer_schema_is_refused_and_left_as_it_is(path: Path) -> None:
    with closing(Database(str(path))) as database:
        database.commit([adds("a")])
        database.read(lambda db: db.execute("PRAGMA user_version = 99"))
    before = path.read_bytes()
    assert (
        f"written by a newer Fusion (schema 99, this one knows {len(schema.MIGRATIONS)})"
        in refusal(Database(str(path))).message
    )
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE recipes (name)")
    before = path.read_bytes()
    assert "belongs to another program" in refusal(Database(str(path))).message
    assert path.read_bytes() == before


def test_a_directory_is_refused(path: Path) -> None:
    path.mkdir()
    assert "cannot be opened (Is a directory)" in refusal(Database(str(path))).message


def test_a_missing_folder_is_refused_until_it_is_there(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "nowhere" / "fusion.db"))
    assert "cannot be opened (No such file or directory)" in refusal(database).message
    (tmp_path / "nowhere").mkdir()
    with closing(database):
        assert sessions_in(database) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any file")
def test_a_file_without_permission_is_refused(path: Path) -> None:
    path.touch(mode=0o400)
    assert "cannot be opened (Permission denied)" in refusal(Database(str(path))).message


def test_a_read_only_disk_is_refused(small_disk: Path) -> None:
    path = small_disk / "fusion.db"
    with closing(Database(str(path))) as database:
        database.commit([adds("a")])
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert "it is read-only" in refusal(Database(str(path))).message
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    with closing(Database(str(path))) as database:
        assert sessions_in(database) == ["a"]


# --- disks that fail under an open database -------------------------------------------------------


def test_a_full_disk_refuses_writes_loses_nothing_and_serves_again_when_there_is_space(
    small_disk: Path,
) -> None:
    with closing(Database(str(small_disk / "fusion.db"))) as database:
        database.commit([adds("a")])
        filler = small_disk / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(b"x" * 2_000_000)
        with pytest.raises(StorageError, match="the disk is full"):
            database.commit([adds("b", "x" * 200_000)])
        assert sessions_in(database) == ["a"]
        filler.unlink()
        database.commit([adds("c", "x" * 200_000)])
        assert sessions_in(database) == ["a", "c"]
        assert database.read(lambda db: db.execute("PRAGMA integrity_check").fetchone()) == ("ok",)


def test_a_failing_write_loses_nothing_and_the_next_one_tries_again(path: Path) -> None:
    with closing(Database(str(path))) as database:
        database.commit([adds("a")])
        with largest_file(200_000), pytest.raises(StorageError, match=r"the disk (failed|is full)"):
            database.commit([adds("b", "x" * 1_000_000)])
        database.commit([adds("c", "x" * 1_000_000)])
        assert sessions_in(database) == ["a", "c"]


def test_a_database_moved_away_is_noticed_before_anything_is_written_to_it(path: Path) -> None:
    moved = path.with_name("moved.db")
    with closing(Database(str(path))) as database:
        database.commit([adds("a")])
        path.rename(moved)
        database.commit([adds("b")])
        assert sessions_in(database) == ["b"]
    with closing(Database(str(moved))) as database:
        assert sessions_in(database) == ["a"]


def test_a_database_replaced_by_another_is_noticed_too(path: Path) -> None:
    backup = path.with_name("backup.db")
    with closing(Database(str(backup))) as database:
        database.commit([adds("from the backup")])
    with closing(Database(str(path))) as database:
        database.commit([adds("a")])
        backup.replace(path)
        database.commit([adds("b")])
        assert sessions_in(database) == ["from the backup", "b"]


def test_a_home_removed_and_made_again_is_used_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with closing(Database(str(home / "fusion.db"))) as database:
        database.commit([adds("a")])
        shutil.rmtree(home)
        with pytest.raises(StorageError, match="No such file or directory"):
            database.commit([adds("b")])
        home.mkdir()
        database.commit([adds("c")])
        assert sessions_in(database) == ["c"]


def test_another_writer_in_the_middle_of_a_transaction_is_named_and_waited_out(path: Path) -> None:
    with closing(Database(str(path))) as database, closing(sqlite3.connect(path)) as other:
        database.commit([adds("a")])
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Locked, match="is locked by another process") as locked:
            database.commit([adds("b")])
        assert locked.value.retry_after
        assert sessions_in(database) == ["a"]
        other.execute("ROLLBACK")
        database.commit([adds("b")])
        assert sessions_in(database) == ["a", "b"]


# --- migrations -----------------------------------------------------------------------------------


def test_an_older_schema_is_brought_up_to_date_with_what_is_in_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Database(str(path))) as database:
        database.commit([adds("a")])
    added = ("CREATE TABLE notes (text TEXT)", "INSERT INTO notes SELECT id FROM sessions")
    monkeypatch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, added])
    with closing(Database(str(path))) as database:
        assert database.read(lambda db: db.execute("SELECT text FROM notes").fetchall()) == [("a",)]
        assert database.read(lambda db: db.execute("PRAGMA user_version").fetchone()) == (
            len(schema.MIGRATIONS),
        )


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Database(str(path))) as database:
        database.commit([adds("a")])
    with monkeypatch.context() as broken:
        broken.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, ("CREATE TABLE notes (text)", "NONSENSE")])
        with pytest.raises(StorageError, match="NONSENSE"):
            Database(str(path)).open()
    with closing(Database(str(path))) as database:
        assert sessions_in(database) == ["a"]
        assert database.read(lambda db: db.execute("PRAGMA user_version").fetchone()) == (
            len(schema.MIGRATIONS),
        )
        assert not database.read(
            lambda db: db.execute("SELECT 1 FROM sqlite_master WHERE name = 'notes'").fetchall()
        )
