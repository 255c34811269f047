"""The store actor: the only process that writes the database.

A write is acknowledged after its commit. When the disk fails, the calls that wait are answered with
StorageError, and the next call tries again: the actor outlives its disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from sqlite3 import Connection
from typing import Any, TypeVar

import msgspec

from fusiond.actors.base import Actor, Call, Handler, Port, decoded
from fusiond.errors import StorageError
from fusiond.protocol.agents import BeginRun, EndRun, ListRuns, RunId, WriteStep
from fusiond.protocol.batches import AddItems, BeginJob, JobId, ListJobs, Move, ReadResults, Step
from fusiond.protocol.sessions import BeginTurn, FinishTurn, ListSessions, SearchSessions, SessionId
from fusiond.storage import batches, retention, runs, sessions
from fusiond.storage.database import Database
from fusiond.storage.group import GroupCommit
from fusiond.storage.search import Search

Ask = TypeVar("Ask", bound=msgspec.Struct)
_SCOPED = (
    *(ListSessions, SearchSessions, SessionId, BeginJob, AddItems, JobId, ListJobs, ReadResults),
    *(ListRuns, RunId),
)
"""What is asked in somebody's name."""

_EXPIRE_EVERY = 3600.0  # seconds
_PAUSE = 0.005  # seconds between two pieces of a removal
_encode = msgspec.msgpack.Encoder().encode
_DECODERS: dict[type[Any], msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(kind)
    for kind in (*_SCOPED, BeginTurn, FinishTurn, Step, Move, BeginRun, WriteStep, EndRun)
}  # made before the fork: it takes a millisecond and a half


class StoreConfig(msgspec.Struct, frozen=True):
    """`database`: the file, "" to keep everything in memory.

    `synchronous`: "NORMAL" survives the death of any process, "FULL" a power cut too. `boot`: names this life of the
    daemon: runs that ran under another one were interrupted. `keep_days`: what was not touched for longer is deleted;
    0 keeps it for ever.
    """

    database: str = ""
    synchronous: str = "NORMAL"
    boot: str = ""
    keep_days: float = 0


class Store(Actor):
    """Serves `sessions.*`, `runs.*` and `batches.*`."""

    def __init__(self, config: StoreConfig) -> None:
        self._boot = config.boot
        self._keep_days = config.keep_days
        self._database = Database(config.database, config.synchronous)
        self._commits = GroupCommit(self._database)
        self._decode_search = _DECODERS[SearchSessions]
        self._discarded = asyncio.Event()  # perhaps something is to be removed
        self.verbs = {
            "sessions.begin": self._writes(BeginTurn, sessions.begin),
            "sessions.finish": self._writes(FinishTurn, sessions.finish),
            "sessions.list": self._reads(ListSessions, sessions.newest),
            "sessions.show": self._reads(SessionId, sessions.show),
            "sessions.delete": self._deletes(),
            "sessions.search": self._search,
            "runs.begin": self._writes(BeginRun, partial(runs.begin, boot=config.boot)),
            "runs.step": self._writes(WriteStep, runs.write),
            "runs.end": self._writes(EndRun, runs.end),
            "runs.list": self._reads(ListRuns, runs.newest),
            "runs.show": self._reads(RunId, runs.show),
            "batches.begin": self._writes(BeginJob, batches.begin),
            "batches.add": self._writes(AddItems, batches.add),
            "batches.step": self._writes(Step, batches.step),
            "batches.move": self._writes(Move, batches.move),
            "batches.delete": self._writes(JobId, batches.delete),
            "batches.list": self._reads(ListJobs, batches.newest),
            "batches.show": self._reads(JobId, batches.show),
            "batches.results": self._reads(ReadResults, batches.results),
            "batches.unfinished": lambda _: _encode(self._database.read(batches.unfinished)),
        }

    async def setup(self, port: Port) -> None:  # noqa: ARG002 - the store asks nobody
        self._database.open()
        with suppress(StorageError):  # a full disk: what is there can be read all the same
            self._database.commit([lambda db: runs.interrupt(db, self._boot)])
        self._tasks = [asyncio.create_task(self._purge())]
        if self._keep_days:
            self._tasks.append(asyncio.create_task(self._expire()))

    async def teardown(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._database.close()

    async def _purge(self) -> None:
        """Removes what discarded jobs have left, a little at a time, so that nobody waits for it."""
        while True:
            with suppress(StorageError):
                while await self._commits.write(lambda db: b"more" if batches.purge(db) else b""):  # noqa: ASYNC110
                    await asyncio.sleep(_PAUSE)
            await self._discarded.wait()
            self._discarded.clear()

    async def _expire(self) -> None:
        """Deletes what was not touched for `keep_days`, now and every hour, a little at a time."""
        while True:
            before = _stamp(datetime.now(UTC) - timedelta(days=self._keep_days))
            with suppress(StorageError):
                while await self._commits.write(
                    lambda db, before=before: b"more" if retention.expire(db, before) else b""  # type: ignore[misc]
                ):
                    self._discarded.set()
                    await asyncio.sleep(_PAUSE)
                self._database.empty_log()
            await asyncio.sleep(_EXPIRE_EVERY)

    def _writes(self, kind: type[Ask], query: Callable[[Connection, Ask, str], object]) -> Handler:
        decoder = _DECODERS[kind]

        async def answer(call: Call) -> bytes:
            ask = _scoped(decoded(decoder.decode, call), call)
            now = _now()
            if kind in (BeginJob, JobId):
                self._discarded.set()
            return await self._commits.write(lambda db: _encode(query(db, ask, now)))

        return answer

    def _deletes(self) -> Handler:
        decoder = _DECODERS[SessionId]

        async def answer(call: Call) -> bytes:
            ask = _scoped(decoded(decoder.decode, call), call)
            deleted = await self._commits.write(lambda db: _encode(sessions.delete(db, ask)))
            with suppress(StorageError):  # it is deleted; the log is emptied the next time
                self._database.empty_log()
            return deleted

        return answer

    def _reads(self, kind: type[Ask], query: Callable[[Connection, Ask], object]) -> Handler:
        decoder = _DECODERS[kind]

        def answer(call: Call) -> bytes:
            ask = _scoped(decoded(decoder.decode, call), call)
            return _encode(self._database.read(lambda db: query(db, ask)))

        return answer

    async def _search(self, call: Call) -> bytes:
        search = Search(_scoped(decoded(self._decode_search.decode, call), call))
        more = True
        while more:
            more = self._database.read(search.page)
            await asyncio.sleep(0)  # a long search keeps neither heartbeats nor other calls waiting
        return _encode(search.found())


_decode_config = msgspec.msgpack.Decoder(
    StoreConfig
).decode  # made before the fork: it takes half a millisecond


def create(config: bytes) -> Store:
    """The store for a `StoreConfig`."""
    return Store(_decode_config(config))


def _scoped(ask: Ask, call: Call) -> Ask:
    """`ask` in the name of who really asks: a client may claim anything, the router knows better."""
    if call.uid == -1 or not isinstance(ask, _SCOPED):
        return ask
    return msgspec.structs.replace(ask, uid=call.uid)


def _now() -> str:
    return _stamp(datetime.now(UTC))


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
