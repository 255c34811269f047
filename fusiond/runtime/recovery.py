"""Measures a recovery from the signal on (`fusionctl kill`)."""

from __future__ import annotations

import asyncio
import time

from fusiond.protocol.control import KillReport, Requests


class Recovery:
    """One kill and what followed. `done` is set when the replacement is ready, or will not be."""

    def __init__(self, actor: str, signal: str, old_pid: int) -> None:
        self.actor, self._signal, self.old_pid = actor, signal, old_pid
        self._start = time.monotonic()
        self.noticed: float | None = None
        self.respawned: float | None = None
        self.ready: float | None = None
        self.new_pid: int | None = None
        self.requests = Requests()
        self.seen = asyncio.Event()
        self.done = asyncio.Event()

    def mark_noticed(self) -> None:
        if self.noticed is None:
            self.noticed = time.monotonic()
            self.seen.set()

    def mark_respawned(self, pid: int) -> None:
        if self.noticed is not None:
            self.respawned, self.new_pid = time.monotonic(), pid

    def mark_ready(self) -> None:
        if self.new_pid is not None:
            self.ready = time.monotonic()
            self.done.set()

    def _ms(self, at: float | None) -> float | None:
        return None if at is None else round((at - self._start) * 1000, 2)

    def report(self) -> KillReport:
        return KillReport(
            actor=self.actor,
            signal=self._signal,
            old_pid=self.old_pid,
            new_pid=self.new_pid,
            noticed_ms=self._ms(self.noticed),
            respawned_ms=self._ms(self.respawned),
            ready_ms=self._ms(self.ready),
            requests=self.requests,
        )
