"""The workers: at least one waits ahead, each does one call at a time, and none is used again that went wrong."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections import deque
from contextlib import suppress

from fusiond.errors import Busy
from fusiond.protocol.tools import OutcomeKind, ToolOutcome
from fusiond.tools.hand import Ended, Hand
from fusiond.tools.launching import LOADING_S, Catalogue, Launcher
from fusiond.tools.namespaces import adopt_orphans
from fusiond.tools.settings import ToolsConfig
from fusiond.tools.wire import Done, Order, encode, in_words, out_of_memory

log = logging.getLogger(__name__)

_REFILL = 0.01  # seconds after a worker was taken before the next is forked: the call has the processor first
_IDLE = 30.0  # seconds after which idle workers beyond the one ahead are let go
_LOOK = 0.25  # seconds between looks at the memory of those that work
_FAILURES = 3  # so often in a row a worker may fail to start
_STILLBORN = "they end as soon as they start"
_SEE = "see fusionctl logs tools"
_GOING = 1.0  # seconds that all are given to be gone


class Pool:
    """The tools actor's workers. Make it inside the running loop, once in a process: it reaps all its children."""

    def __init__(self, config: ToolsConfig, loading_s: float = LOADING_S) -> None:
        settings = config.settings
        self._most = settings.workers
        self._memory = settings.memory_mb << 20
        self._longest = settings.max_output_bytes
        self._loop = asyncio.get_running_loop()
        self._launcher = Launcher(config, self._welcome, self._not_made, loading_s)
        self._hands: dict[int, Hand] = {}  # by the pid of the keeper, until it is reaped
        self._idle: list[Hand] = []
        self._busy: set[Hand] = set()
        self._waiting: deque[asyncio.Future[Hand]] = deque()
        self._looking: asyncio.TimerHandle | None = None
        self._shrinking: asyncio.TimerHandle | None = None
        self._closed = False
        self._gone = asyncio.Event()
        self._stillborn = 0  # workers in a row that ended before they had started
        adopt_orphans()
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)

    @property
    def pids(self) -> list[int]:
        """Of the template and the keepers."""
        return [pid for pid in (self._launcher.pid, *self._hands) if pid]

    async def catalogue(self) -> Catalogue:
        """What there is; starts what has to be started, and raises FusionError if that cannot be."""
        catalogue = await self._launcher.catalogue()
        self._refill()
        return catalogue

    async def call(self, order: Order, seconds: float) -> bytes:
        """Has it done by a worker; returns a ToolOutcome, encoded. Cancelled, it ends the worker at once.

        `seconds`: how long the worker may take; waiting for one does not count.
        """
        while self._stillborn < _FAILURES:
            hand = await self._take()
            try:
                end = await hand.ask(order, seconds)
            finally:
                self._give_back(hand)
            if isinstance(end, Done):
                return bytes(end.outcome)
            if end.begun:
                return self._told(order, end, seconds)
        self._stillborn = 0  # whoever asks next may try again
        raise Busy(f"no worker for {order.name}: {_STILLBORN}", advice=_SEE, retry_after=1.0)

    async def close(self) -> None:
        """Ends all of it."""
        self._closed = True
        self._launcher.close()
        for hand in self._hands.values():
            hand.kill()
        self._check_gone()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._gone.wait(), _GOING)

    # --- who does what -----------------------------------------------------------------------------------------------

    async def _take(self) -> Hand:
        if self._idle and len(self._busy) < self._most:
            hand = self._idle.pop()
            self._busy.add(hand)
        else:
            turn: asyncio.Future[Hand] = self._loop.create_future()
            self._waiting.append(turn)
            self._refill()
            try:
                hand = await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled() and not turn.exception():
                    self._give_back(turn.result())
                raise
        if not self._idle:
            self._loop.call_later(_REFILL, self._refill)
        if self._looking is None:
            self._looking = self._loop.call_later(_LOOK, self._look)
        return hand

    def _give_back(self, hand: Hand) -> None:
        self._busy.discard(hand)
        if hand.usable and not self._closed:
            self._idle.append(hand)
        else:
            hand.kill()
        self._serve()
        if len(self._idle) > 1 and self._shrinking is None:
            self._shrinking = self._loop.call_later(_IDLE, self._shrink)

    def _serve(self) -> None:
        """Gives idle workers to those who wait for one."""
        while self._waiting and self._idle and len(self._busy) < self._most:
            turn = self._waiting.popleft()
            if not turn.done():
                hand = self._idle.pop()
                self._busy.add(hand)
                turn.set_result(hand)
        self._refill()

    def _refill(self) -> None:
        """One worker for each call that waits and may run, and one ahead."""
        if self._closed:
            return
        waiting = sum(not turn.done() for turn in self._waiting)
        wanted = min(waiting, self._most - len(self._busy)) + 1
        for _ in range(wanted - len(self._idle) - self._launcher.owed):
            self._launcher.spawn()

    def _shrink(self) -> None:
        self._shrinking = None
        while len(self._idle) > 1:
            self._idle.pop(0).kill()

    def _look(self) -> None:
        """Ends workers that have taken too much in ways that the kernel's limit does not count."""
        self._looking = self._loop.call_later(_LOOK, self._look) if self._busy else None
        for hand in self._busy:
            hand.look(self._memory)

    # --- coming and going --------------------------------------------------------------------------------------------

    def _welcome(self, pid: int, connection: socket.socket, isolated: bool) -> None:
        hand = self._hands[pid] = Hand(pid, connection, isolated, self._longest, self._lost)
        self._idle.append(hand)
        self._serve()

    def _not_made(self, why: str) -> None:
        log.warning("a worker did not come: %s", why)
        if not self._busy:  # else one of those will do
            self._fail(why)

    def _fail(self, why: str) -> None:
        """Nobody waits any longer: a later call tries anew."""
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(Busy(f"no worker for the tool: {why}", advice=_SEE, retry_after=1.0))
        self._waiting.clear()

    def _lost(self, hand: Hand) -> None:
        """An idle one has ended."""
        if hand not in self._idle:
            return
        self._idle.remove(hand)
        if self._stillborn < _FAILURES:
            self._refill()
        else:
            self._stillborn = 0
            self._fail(_STILLBORN)

    def _reap(self) -> None:
        while True:
            try:
                result = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                break
            if result is None:
                break
            status = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
            if result.si_pid == self._launcher.pid:
                log.warning("the tools' template ended: %s", in_words(status))
                self._launcher.ended(in_words(status))
            elif hand := self._hands.pop(result.si_pid, None):
                self._stillborn = 0 if hand.started else self._stillborn + 1
                hand.reaped(status)
        self._check_gone()

    def _check_gone(self) -> None:
        if self._closed and not self.pids:
            self._gone.set()

    def _told(self, order: Order, end: Ended, seconds: float) -> bytes:
        """What a model is told of a call that its worker did not survive."""
        kind: OutcomeKind = "crashed"
        if end.why == "timeout":
            kind = "timeout"
            text = f"{order.name} was not done after {seconds:g} s and was ended; what it did until then may stand"
        elif end.why == "memory":
            text = out_of_memory(order.name, self._memory >> 20)
        elif end.why == "garbage":
            text = f"{order.name} was ended: it wrote into the connection of its worker"
        else:
            how = in_words(end.status) if end.status is not None else "for a reason unknown"
            text = f"{order.name} crashed: its process ended with {how}; what it did until then may stand"
        return encode(ToolOutcome(kind=kind, text=text, ms=end.ms))
