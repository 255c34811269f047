"""Group commit: writes that arrive in the same turn of the event loop share one transaction.

Each is acknowledged after the commit, never before; a failing one does not undo the others.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from fusiond.storage.database import Database
from fusiond.storage.faults import Locked

Write = Callable[[sqlite3.Connection], bytes]

_PATIENCE = 5.0  # seconds that a write waits for another process to let go of the database
_PAUSE = 0.05  # seconds between two tries


@dataclass(frozen=True, eq=False)
class _Waiting:
    write: Write
    done: asyncio.Future[bytes]
    since: float


class GroupCommit:
    """Gathers the writes to `database`. Lives in one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Waiting] = []
        self._scheduled = False

    async def write(self, write: Write) -> bytes:
        """What `write` returned, once it is committed; raises what it raised, or StorageError.

        Cancelling the wait does not take the write back.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(write, loop.create_future(), loop.time())
        self._waiting.append(waiting)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush)
        return await waiting.done

    def _flush(self) -> None:
        self._scheduled = False
        group, self._waiting = self._waiting, []
        try:
            self._commit(group)
        except Locked as error:
            self._try_later(group, error)
        except Exception as error:  # whatever it is, nobody may wait for ever
            if len(group) == 1:
                _settle(group[0], error)
            else:
                self._commit_singly(group)

    def _commit(self, group: list[_Waiting]) -> None:
        outcomes = self._database.commit([waiting.write for waiting in group])
        for waiting, outcome in zip(group, outcomes, strict=True):
            _settle(waiting, outcome)

    def _commit_singly(self, group: list[_Waiting]) -> None:
        """The group as a whole failed; a small write may still fit where a large one did not."""
        for waiting in group:
            try:
                self._commit([waiting])
            except Exception as error:
                _settle(waiting, error)

    def _try_later(self, group: list[_Waiting], error: Locked) -> None:
        loop = asyncio.get_running_loop()
        still = [waiting for waiting in group if loop.time() - waiting.since < _PATIENCE]
        for waiting in group:
            if waiting not in still:
                _settle(waiting, error)
        if still:
            self._waiting = still + self._waiting
            self._scheduled = True
            loop.call_later(_PAUSE, self._flush)


def _settle(waiting: _Waiting, outcome: bytes | Exception) -> None:
    if waiting.done.done():  # whoever asked has gone
        return
    if isinstance(outcome, Exception):
        waiting.done.set_exception(outcome)
    else:
        waiting.done.set_result(outcome)
