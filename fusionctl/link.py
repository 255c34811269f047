"""A connection to one incarnation of the daemon; it says when that incarnation is gone.

What survives inside the daemon (its router, its actors) needs nothing here: the `Requester` reconnects and
asks again. The link is about the daemon itself: its process ended, or it hangs and somebody has to end it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from fusionctl import autostart
from fusionctl.autostart import Daemon, Notice
from fusiond.errors import FusionError, Unreachable
from fusiond.transport.requester import Pending, Requester

T = TypeVar("T")

_LOOK_EVERY = 1.0  # seconds between two questions to the supervisor while something is waited for
_SLICES = 20  # of SILENCE: counted, so that our own lateness is not taken for the supervisor's silence


class DaemonGone(Unreachable):
    """The daemon ended while something was asked of it."""


class Link:
    """Requests to the work's router and to the supervisor of one daemon. Make it inside a running loop.

    With `watch`, a supervisor that stops answering while something is waited for is killed.
    """

    def __init__(self, daemon: Daemon, *, watch: bool, notice: Notice) -> None:
        self.daemon = daemon
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._router: Requester | None = None
        self._control: Requester | None = None
        self._notice = notice
        self._watch = watch and daemon.holder.ours
        self._waiting = 0
        self._guard: asyncio.Task[None] | None = None
        self._pidfd = daemon.holder.pidfd()
        if self._pidfd is None:
            self._lose()
        else:
            self._loop.add_reader(self._pidfd, self._lose)

    @property
    def gone(self) -> bool:
        return self._gone.done()

    @property
    def router(self) -> Requester:
        if self._router is None:
            self._router = Requester(f"ipc://{self.daemon.paths.router_socket}")
        return self._router

    @property
    def control(self) -> Requester:
        if self._control is None:
            self._control = Requester(f"ipc://{self.daemon.paths.supervisor_socket}")
        return self._control

    async def answer(self, waiting: Awaitable[T]) -> T:
        """What `waiting` gives. Raises `DaemonGone` if the daemon ends first; `waiting` is then cancelled."""
        task = asyncio.ensure_future(waiting)
        self._begin()
        try:
            ends: list[asyncio.Future[Any]] = [task, self._gone]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise self._ended()
            return task.result()
        finally:
            self._finish()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    async def chunks(self, stream: Pending) -> AsyncGenerator[bytes, None]:
        """The stream's chunks. Raises `DaemonGone` if the daemon ends first."""
        chunks = aiter(stream)
        while (chunk := await self.answer(_next(chunks))) is not None:
            yield chunk

    async def close(self) -> None:
        if self._guard is not None:
            self._guard.cancel()
        why = self._ended() if self.gone else None  # others may be waiting here who have not noticed it yet
        for requester in (self._router, self._control):
            if requester is not None:
                await requester.close(why)
        self._lose()

    def _ended(self) -> DaemonGone:
        return DaemonGone(f"the daemon (pid {self.daemon.holder.pid}) has ended")

    def _lose(self) -> None:
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if not self._gone.done():
            self._gone.set_result(None)

    def _begin(self) -> None:
        self._waiting += 1
        if self._watch and self._guard is None:
            self._guard = self._loop.create_task(self._look())

    def _finish(self) -> None:
        self._waiting -= 1

    async def _look(self) -> None:
        """Asks the supervisor for a sign of life for as long as something is waited for."""
        silences = 0
        try:
            while not self.gone:
                await asyncio.sleep(_LOOK_EVERY)
                if not self._waiting:
                    return
                silences = 0 if await self._answers() else silences + 1
                if not silences or not autostart.is_hung(self.daemon.holder, silences):
                    continue
                await off_loop(lambda: autostart.replace_hung(self.daemon.holder, self._notice))
                self._lose()
        finally:
            self._guard = None

    async def _answers(self) -> bool:
        """The supervisor said something within its time; or it is gone, and silent for a better reason."""
        asked = asyncio.ensure_future(_quietly(self.control.request("supervisor", "ping")))
        try:
            for _ in range(_SLICES):
                await asyncio.wait({asked, self._gone}, timeout=autostart.SILENCE / _SLICES)
                if asked.done() or self.gone:
                    return True
            return False
        finally:
            asked.cancel()


async def off_loop(call: Callable[[], T]) -> T:
    """What the blocking `call` returns.

    In a thread that nobody waits for at the end: Ctrl-C need not wait for it.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        try:
            result, error = call(), None
        except BaseException as raised:
            result, error = None, raised
        with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, daemon=True, name="off-loop").start()
    return await done


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


async def _quietly(asked: Awaitable[bytes]) -> None:
    """Waits for an answer of any kind: a failure is a sign of life too."""
    with contextlib.suppress(FusionError):
        await asked
