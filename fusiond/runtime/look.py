"""What `health` shows: the policy's state, and what the kernel says of each process."""

from __future__ import annotations

import os
import time

from fusiond import __version__
from fusiond.protocol.control import ActorHealth, Health, LastExit, SupervisorHealth
from fusiond.protocol.lifeline import Beat
from fusiond.runtime import linux
from fusiond.runtime.journal import stamp
from fusiond.runtime.supervisor import Supervisor, wall_clock
from fusiond.supervision.state import Child


class Look:
    """Looks at the tree; remembers each process's processor time from one look to the next."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._started = time.monotonic()
        self._cpu: dict[int, tuple[float, float]] = {}  # pid → when, processor seconds

    def health(self) -> Health:
        """The state of the tree, now."""
        children = self._supervisor.state.children
        actors = [self._actor(name, child) for name, child in children.items()]
        alive = {actor.pid for actor in actors}
        self._cpu = {pid: used for pid, used in self._cpu.items() if pid in alive}
        degraded = any(child.degraded for child in children.values())
        uptime = time.monotonic() - self._started
        return Health(
            status="degraded" if degraded else "healthy",
            version=__version__,
            supervisor=SupervisorHealth(os.getpid(), round(uptime, 3)),
            actors=actors,
        )

    def _actor(self, name: str, child: Child) -> ActorHealth:
        process = self._supervisor.process(name)
        now = time.monotonic()
        beat = process.beat if process else None
        rss, cpu = self._usage(process.pid) if process else (None, None)
        seen = max(child.last_seen, child.spawned_at) if process else None
        return ActorHealth(
            name=name,
            kind=child.spec.kind,
            pid=process.pid if process else None,
            state=child.state,
            generation=child.generation,
            last_seen_ms=None if seen is None else round((now - seen) * 1000, 1),
            restarts=child.restarts,
            uptime_s=round(now - child.spawned_at, 3) if process else None,
            in_flight=beat.in_flight if beat else 0,
            loop_lag_ms=round(beat.lag_ms, 2) if beat else None,
            rss_bytes=rss,
            cpu_percent=cpu,
            last_exit=_last_exit(child),
            children=self._children(child, beat),
        )

    def _children(self, child: Child, beat: Beat | None) -> list[int]:
        if child.spec.kind == "forkserver":
            return self._supervisor.processes.blanks
        return beat.children if beat else []

    def _usage(self, pid: int) -> tuple[int | None, float | None]:
        """Resident bytes, and processor time since the last look (at first: since its start) in percent of a core."""
        if (used := linux.usage(pid)) is None:
            return None, None
        now = time.monotonic()
        then, before = self._cpu.get(pid, (now - used.age_s, 0.0))
        if now - then > 0.5 or pid not in self._cpu:
            self._cpu[pid] = (now, used.cpu_s)
        percent = 100 * max(0.0, used.cpu_s - before) / max(now - then, 0.01)
        return linux.rss(pid), round(percent, 2)


def _last_exit(child: Child) -> LastExit | None:
    last = child.last_exit
    if last is None:
        return None
    recovered = None if last.recovered_s is None else round(last.recovered_s * 1000, 1)
    return LastExit(last.reason, last.detail, stamp(wall_clock(last.at)), recovered)
