"""The store actor over real files, and what is left of them when its process is killed."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import pytest

import fusiond
from fusiond.actors.base import Port
from fusiond.actors.store import Store, StoreConfig, create
from fusiond.errors import BadRequest, ConfigError, NotFound, StorageError
from fusiond.protocol.sessions import (
    BeginTurn,
    Conversation,
    FinishTurn,
    ListSessions,
    SearchSessions,
    SessionDetail,
    SessionId,
    SessionSummary,
    TurnAnswer,
    TurnRecorded,
)

Reply = TypeVar("Reply")

NO_PORT = cast(Port, None)  # the store asks nobody


@dataclass
class Asked:
    """A call as the host would hand it over."""

    verb: str
    body: bytes
    uid: int = -1
    id: bytes = b"\0" * 16
    attempt: int = 1
    remaining: float | None = None
    chunks: list[bytes] = field(default_factory=list)

    def emit(self, chunk: bytes) -> None:
        self.chunks.append(chunk)


async def ask(store: Store, verb: str, body: Any, reply: type[Reply], *, uid: int = -1) -> Reply:
    outcome = store.verbs[verb](Asked(verb, msgspec.msgpack.encode(body), uid))
    answer = await outcome if isinstance(outcome, Awaitable) else outcome
    return msgspec.msgpack.decode(answer, type=reply)


async def begin(store: Store, turn: str, prompt: str = "hello", **more: Any) -> Conversation:
    return await ask(store, "sessions.begin", BeginTurn(turn=turn, prompt=prompt, **more), Conversation)


async def finish(store: Store, turn: str, session: str, text: str) -> TurnRecorded:
    answer = TurnAnswer(text=text, model="m")
    return await ask(
        store, "sessions.finish", FinishTurn(turn=turn, session=session, answer=answer), TurnRecorded
    )


async def listed(store: Store, *, uid: int = -1) -> list[str]:
    summaries = await ask(store, "sessions.list", ListSessions(), list[SessionSummary], uid=uid)
    return [summary.id for summary in summaries]


def made(path: Path | str) -> Store:
    return create(msgspec.msgpack.encode(StoreConfig(database=str(path))))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "fusion.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    path.parent.mkdir()
    store = made(path)
    await store.setup(NO_PORT)
    yield store
    await store.teardown()


# --- verbs ---------------------------------------------------------------------------------------------


async def test_a_conversation_goes_through_all_verbs(store: Store) -> None:
    session = (await begin(store, "t1", "What is the capital of France?")).session
    assert await finish(store, "t1", session, "Paris") == TurnRecorded("t1")
    assert await listed(store) == [session]
    detail = await ask(store, "sessions.show", SessionId(session), SessionDetail)
    assert [(message.role, message.content) for message in detail.messages] == [
        ("user", "What is the capital of France?"),
        ("assistant", "Paris"),
    ]
    found = await ask(store, "sessions.search", SearchSessions("paris france"), list[SessionSummary])
    assert [summary.id for summary in found] == [session]
    deleted = await ask(store, "sessions.delete", SessionId(session), SessionSummary)
    assert deleted == found[0]
    assert await listed(store) == []


async def test_a_deletion_that_stands_is_no_error_though_the_disk_does_not_let_the_log_be_emptied(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise StorageError("database or disk is full")

    session = (await begin(store, "t1")).session
    monkeypatch.setattr(store._database, "empty_log", full)
    assert (await ask(store, "sessions.delete", SessionId(session), SessionSummary)).id == session
    assert await listed(store) == []


async def test_what_it_records_is_there_after_a_restart(store: Store, path: Path) -> None:
    session = (await begin(store, "t1")).session
    await finish(store, "t1", session, "yes")
    await store.teardown()
    other = made(path)
    await other.setup(NO_PORT)
    answer = (await begin(other, "t1")).answer
    assert answer is not None
    assert answer.text == "yes"
    await other.teardown()


async def test_in_memory_it_works_the_same() -> None:
    store = made("")
    await store.setup(NO_PORT)
    session = (await begin(store, "t1")).session
    await finish(store, "t1", session, "yes")
    assert await listed(store) == [session]
    await store.teardown()


async def test_times_are_in_utc_with_milliseconds(store: Store) -> None:
    session = (await begin(store, "t1")).session
    summary = await ask(store, "sessions.show", SessionId(session), SessionSummary)
    assert len(summary.created) == len("2026-11-22T13:00:00.123Z")
    assert summary.created.endswith("Z")


async def test_a_reader_is_who_the_router_says_not_who_it_claims_to_be(store: Store) -> None:
    session = (await begin(store, "t1", uid=1000)).session
    assert await listed(store, uid=1000) == [session]
    assert await listed(store, uid=1001) == []
    for verb in ("sessions.show", "sessions.delete"):
        with pytest.raises(NotFound):
            await ask(store, verb, SessionId(session, uid=1000), SessionSummary, uid=1001)
    claimed = SearchSessions("hello", uid=1000)
    assert await ask(store, "sessions.search", claimed, list[SessionSummary], uid=1001) == []


@pytest.mark.parametrize(
    "verb", ["sessions.begin", "sessions.finish", "sessions.list", "sessions.show", "sessions.search"]
)
async def test_a_request_that_makes_no_sense_is_refused(store: Store, verb: str) -> None:
    with pytest.raises(BadRequest, match=f"{verb} does not understand"):
        await ask(store, verb, ["what"], object)


async def test_a_search_lets_others_have_their_turn(store: Store) -> None:
    for n in range(120):
        await begin(store, str(n), "needle")
    search = asyncio.ensure_future(
        ask(store, "sessions.search", SearchSessions("needle", limit=500), list[SessionSummary])
    )
    await begin(store, "meanwhile", "something else")
    assert not search.done()
    assert len(await search) == 120


async def test_a_search_counts_as_found_what_is_used_while_it_runs(store: Store) -> None:
    made = [(await begin(store, str(n), "needle")).session for n in range(120)]
    search = asyncio.ensure_future(
        ask(store, "sessions.search", SearchSessions("needle", limit=500), list[SessionSummary])
    )
    await begin(store, "meanwhile", "go on", session=made[-1])
    assert {summary.id for summary in await search} == set(made)


# --- disks that fail -------------------------------------------------------------------------------------


@pytest.fixture
def damaged(path: Path) -> Path:
    path.parent.mkdir()
    path.write_text("this was a database once" * 100)
    return path


async def test_a_damaged_database_fails_the_setup(damaged: Path) -> None:
    with pytest.raises(StorageError, match="is damaged"):
        await made(damaged).setup(NO_PORT)


def test_an_unknown_durability_is_refused() -> None:
    with pytest.raises(ConfigError):
        create(msgspec.msgpack.encode(StoreConfig(synchronous="sometimes")))


async def test_it_outlives_its_disk(store: Store, path: Path) -> None:
    await begin(store, "t1")
    shutil.rmtree(path.parent)
    outcomes = await asyncio.gather(
        *(begin(store, turn) for turn in ("t2", "t3")), listed(store), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [StorageError] * 3
    path.parent.mkdir()
    session = (await begin(store, "t4")).session
    assert await listed(store) == [session]


# --- kill -9 ---------------------------------------------------------------------------------------------

WRITER = """
import asyncio, os, sys
import msgspec
from fusiond.actors.store import StoreConfig, create
from fusiond.protocol.sessions import BeginTurn, Conversation, FinishTurn, TurnAnswer

class Asked:
    uid = -1
    def __init__(self, body):
        self.body = msgspec.msgpack.encode(body)

async def main(path, round):
    store = create(msgspec.msgpack.encode(StoreConfig(database=path)))
    await store.setup(None)

    async def turn(name):
        begun = await store.verbs["sessions.begin"](Asked(BeginTurn(turn=name, prompt="prompt of " + name)))
        os.write(1, f"begun {name}\\n".encode())
        session = msgspec.msgpack.decode(begun, type=Conversation).session
        answer = TurnAnswer(text=f"answer to {name} " * 200, model="m")
        await store.verbs["sessions.finish"](Asked(FinishTurn(turn=name, session=session, answer=answer)))
        os.write(1, f"finished {name}\\n".encode())

    async def one_after_another(lane):
        for n in range(1_000_000):
            await turn(f"{round}-{lane}-{n}")

    await asyncio.gather(*(one_after_another(lane) for lane in range(8)))

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


def acknowledged_until_killed(path: Path, round: int, after: int) -> dict[str, set[str]]:
    """The turns that another process acknowledged before it was killed, `after` acknowledgements in."""
    environment = {**os.environ, "PYTHONPATH": str(Path(fusiond.__file__).parents[1])}
    acknowledged: dict[str, set[str]] = defaultdict(set)
    writer = [sys.executable, "-c", WRITER, str(path), str(round)]
    with subprocess.Popen(writer, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        for number, line in enumerate(process.stdout):  # what was said before the kill comes after it too
            kind, turn = line.split()
            acknowledged[kind].add(turn)
            if number == after:
                process.kill()
    assert process.returncode == -9
    return acknowledged


async def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(path: Path) -> None:
    path.parent.mkdir()
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    begun: set[str] = set()
    finished: set[str] = set()
    for round in range(8):
        acknowledged = acknowledged_until_killed(path, round, chance.randrange(1500))
        begun |= acknowledged["begun"]
        finished |= acknowledged["finished"]
        store = made(path)
        await store.setup(NO_PORT)
        for turn in begun:
            conversation = await begin(store, turn, "must not replace the recorded prompt")
            assert conversation.messages[-1].content == f"prompt of {turn}"
            if turn in finished:
                assert conversation.answer is not None
                assert conversation.answer.text == f"answer to {turn} " * 200
        await store.teardown()
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    assert finished


async def test_two_writing_processes_do_not_harm_each_other(store: Store, path: Path) -> None:
    other = asyncio.ensure_future(asyncio.to_thread(acknowledged_until_killed, path, 0, 600))
    mine = 0
    while not other.done():
        await begin(store, f"mine-{mine}")
        mine += 1
    theirs = (await other)["begun"]
    assert mine
    assert theirs
    recorded = await ask(store, "sessions.list", ListSessions(limit=100_000), list[SessionSummary])
    titles = {summary.title for summary in recorded}
    assert titles >= {f"prompt of {turn}" for turn in theirs}
    assert sum(summary.title == "hello" for summary in recorded) == mine
