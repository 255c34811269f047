from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fusiond.errors import NotFound, StorageError
from fusiond.storage import group
from fusiond.storage.database import Database
from fusiond.storage.faults import Locked
from fusiond.storage.group import GroupCommit, Write


def adds(id: str, text: str = "") -> Write:
    def write(db: sqlite3.Connection) -> bytes:
        db.execute("INSERT INTO sessions VALUES (NULL, ?, 0, 0, '', '', ?)", (id, text))
        return id.encode()

    return write


def not_found(db: sqlite3.Connection) -> bytes:
    adds("half")(db)
    raise NotFound("no such session")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fusion.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with closing(Database(str(path))) as database:
        database.open()
        yield database


@pytest.fixture
def commits(database: Database) -> GroupCommit:
    return GroupCommit(database)


@pytest.fixture
def statements(database: Database) -> list[str]:
    """What SQLite executes from here on."""
    seen: list[str] = []
    database.read(lambda db: db.set_trace_callback(seen.append))
    return seen


def sessions_in(path: Path) -> list[str]:
    """As another process sees them: what is committed."""
    with closing(sqlite3.connect(path)) as reader:
        return [id for (id,) in reader.execute("SELECT id FROM sessions ORDER BY id")]


async def test_writes_of_one_turn_of_the_loop_share_one_commit(
    commits: GroupCommit, statements: list[str]
) -> None:
    assert await asyncio.gather(*(commits.write(adds(str(n))) for n in range(20))) == [
        str(n).encode() for n in range(20)
    ]
    assert [statements.count(word) for word in ("BEGIN IMMEDIATE", "COMMIT")] == [1, 1]


async def test_a_write_is_acknowledged_after_its_commit(commits: GroupCommit, path: Path) -> None:
    async def write(id: str) -> list[str]:
        await commits.write(adds(id))
        return sessions_in(path)

    for seen in await asyncio.gather(*(write(str(n)) for n in range(5))):
        assert seen == ["0", "1", "2", "3", "4"]


async def test_the_error_of_one_does_not_undo_the_others(commits: GroupCommit, path: Path) -> None:
    outcomes = await asyncio.gather(
        commits.write(adds("a")), commits.write(not_found), commits.write(adds("b")), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [bytes, NotFound, bytes]
    assert sessions_in(path) == ["a", "b"]


async def test_a_write_too_large_for_the_disk_fails_alone(commits: GroupCommit, path: Path) -> None:
    commits._database.read(lambda db: db.execute("PRAGMA max_page_count = 50"))
    outcomes = await asyncio.gather(
        commits.write(adds("a")),
        commits.write(adds("large", "x" * 1_000_000)),
        commits.write(adds("b")),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [bytes, StorageError, bytes]
    assert "the disk is full" in str(outcomes[1])
    assert sessions_in(path) == ["a", "b"]


async def test_a_write_whose_asker_has_gone_is_still_committed(commits: GroupCommit, path: Path) -> None:
    gone = asyncio.ensure_future(commits.write(adds("a")))
    asyncio.get_running_loop().call_soon(gone.cancel)
    await commits.write(adds("b"))
    assert gone.cancelled()
    assert sessions_in(path) == ["a", "b"]


async def test_a_write_waits_for_another_process_to_let_go(commits: GroupCommit, path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        writes = [asyncio.ensure_future(commits.write(adds(id))) for id in ("a", "b")]
        done, _ = await asyncio.wait(writes, timeout=0.3)
        assert not done
        other.execute("ROLLBACK")
        assert await asyncio.gather(*writes) == [b"a", b"b"]
    assert sessions_in(path) == ["a", "b"]


async def test_a_write_does_not_wait_for_ever(
    commits: GroupCommit, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "_PATIENCE", 0.2)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Locked):
            await commits.write(adds("a"))
    assert sessions_in(path) == []
    await commits.write(adds("b"))


async def test_an_error_of_ours_reaches_whoever_asked(commits: GroupCommit) -> None:
    def wrong(db: sqlite3.Connection) -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await commits.write(wrong)
    assert await commits.write(adds("a")) == b"a"
