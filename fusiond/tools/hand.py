"""The tools actor's side of one worker: its connection, and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from fusiond.protocol.tools import ToolOutcome
from fusiond.tools.namespaces import resident_bytes
from fusiond.tools.wire import LENGTH, READY, Done, Order, decode_done, framed, status_of

Why = Literal["", "timeout", "memory", "garbage"]

_SPARE = 8 << 20  # bytes that a result may have beyond its text: content, and what encoding adds
_CHUNK = 256 * 1024
_PATIENCE = 1.0  # seconds from a kill to when nobody waits any longer
_decode_outcome = msgspec.msgpack.Decoder(ToolOutcome).decode


class Ended(NamedTuple):
    """The worker is no more. `why` we ended it, "" if it ended itself; then its exit status, or minus the signal.

    `begun`: it had, or may have, the order.
    """

    why: Why
    status: int | None
    begun: bool
    ms: float


class Hand:
    """One worker. `on_lost` is called when it ends without an order."""

    def __init__(
        self,
        pid: int,
        connection: socket.socket,
        isolated: bool,
        longest: int,
        on_lost: Callable[[Hand], None],
    ) -> None:
        self.pid = pid
        self._connection = connection
        self._isolated = isolated
        self._longest = longest + _SPARE
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._answer: asyncio.Future[Done | Ended] | None = None
        self._asked_at = 0.0
        self._reaped = False
        self._open = True
        self._untouched = False
        self._why: Why = ""
        self._worker = 0
        self._first = 0  # bytes of memory when first looked at
        self.usable = True
        self.started = False  # it has said so
        self._loop.add_reader(connection.fileno(), self._read)
        with suppress(OSError):
            connection.send(b"g")  # its parent is us now

    async def ask(self, order: Order, seconds: float) -> Done | Ended:
        """Has it done, within `seconds`. Whoever stops waiting must not use the worker again."""
        while self._read():
            pass
        if not self._open:  # it has ended meanwhile
            return Ended("", None, False, 0.0)
        self._answer = self._loop.create_future()
        self._asked_at = self._loop.time()
        timer = self._loop.call_later(seconds, self._end, "timeout")
        self.usable = False  # until it says otherwise
        try:
            try:
                await self._loop.sock_sendall(self._connection, framed(order))
            except OSError:
                return Ended("", None, False, 0.0)
            return await self._answer
        finally:
            timer.cancel()
            self._answer = None

    def kill(self) -> None:
        """Ends it and all that has come of it."""
        self.usable = False
        self._buffer.clear()
        if not self._reaped:
            os.kill(self.pid, signal.SIGKILL if self._isolated else signal.SIGTERM)
            self._loop.call_later(_PATIENCE, self._insist)

    def look(self, most: int) -> None:
        """Ends it if it occupies more than `most` bytes more than when it was looked at first."""
        self._worker = self._worker or _child(self.pid)
        occupied = resident_bytes(self._worker) if self._worker else 0
        self._first = self._first or occupied
        if occupied > self._first + most:
            self._end("memory")

    def reaped(self, status: int) -> None:
        """Its keeper has ended so."""
        self._reaped = True
        while self._open and self._read():
            pass
        self._close(status)

    # --- what it says ------------------------------------------------------------------------------------------------

    def _read(self) -> bool:
        """Takes what has come; returns whether there was anything."""
        try:
            piece = self._connection.recv(_CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # what we sent last has not been read
            piece, self._untouched = b"", True
        if not piece:
            self._shut()
            if (status := status_of(self._buffer[-LENGTH:])) is not None:
                self._close(status)  # else it is for the keeper's own end to tell
            return False
        self._buffer += piece
        if not self.started and self._buffer.startswith(READY):
            self.started = True
            del self._buffer[:LENGTH]
        size = LENGTH + int.from_bytes(self._buffer[:LENGTH], "big")
        if self._answer is None or self._answer.done():
            if len(self._buffer) > LENGTH:  # nobody has asked it
                self._end("garbage")
        elif status_of(self._buffer[:LENGTH]) is not None:
            pass
        elif size > self._longest:
            self._end("garbage")
        elif len(self._buffer) >= size:
            message = bytes(self._buffer[LENGTH:size])
            del self._buffer[:size]
            self._done(message, self._answer)
        return True

    def _done(self, message: bytes, answer: asyncio.Future[Done | Ended]) -> None:
        try:
            done = decode_done(message)
            _decode_outcome(done.outcome)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._end("garbage")
            return
        self.usable = done.again and not self._buffer
        answer.set_result(done)

    # --- its end -----------------------------------------------------------------------------------------------------

    def _end(self, why: Why) -> None:
        self._why = self._why or why
        self.kill()

    def _insist(self) -> None:
        if not self._reaped:
            os.kill(self.pid, signal.SIGKILL)
        self._close(None)

    def _shut(self) -> None:
        if self._open:
            self._open = self.usable = False
            self._loop.remove_reader(self._connection.fileno())
            self._connection.close()

    def _close(self, status: int | None) -> None:
        self._shut()
        if self._answer is not None and not self._answer.done():
            ms = (self._loop.time() - self._asked_at) * 1000
            begun = bool(self._why) or not self._untouched
            self._answer.set_result(Ended(self._why, status, begun, ms))
        elif self._answer is None:
            self._on_lost(self)


def _child(pid: int) -> int:
    """The first child of a process, 0 without one."""
    with suppress(OSError):
        if found := Path(f"/proc/{pid}/task/{pid}/children").read_bytes().split():
            return int(found[0])
    return 0
