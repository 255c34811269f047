"""From `kill -9` to the replacement being ready, against other supervisors.

The signal is sent by this process, straight to the pid, and the clock runs here too: from just before the signal to
the arrival of the daemon's `ready` event (peers: of the new child's report). So the time includes the notice, the
replacement, its registration at the router, and the news of it; `fusionctl kill` measures the same inside the
supervisor and shows a little less. For the router, ready means that every actor has registered again.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol

from tests.bench.report import Report, Row, percentile
from tests.bench.supervisors import Exec, Runit, Supervised, Supervisord
from tests.bench.tree import Link, Tree, Watch

PAUSE_S = 0.15
_LIMIT_S = 30
_SLOW_EVERY = 5  # rounds; a peer that takes a second each time is asked less often
_TARGETS = {"p50": 8.0, "p99": 30.0}
_TARGET_WITHOUT_SPARE = 15.0
_SHARE_OF_RUNIT = 1 / 8


class Subject(Protocol):
    """Something that is killed and comes back."""

    @property
    def name(self) -> str: ...

    def rest(self) -> None:
        """Waits until it may be killed."""

    def kill(self) -> float:
        """Seconds from the signal until it is back."""


class Actor:
    """An actor of the tree, known to be back by the daemon's event."""

    def __init__(self, tree: Tree, watch: Watch, actor: str) -> None:
        self.name = f"Fusion: {actor}"
        self._tree, self._watch, self._actor = tree, watch, actor

    def rest(self) -> None:
        pass

    def kill(self) -> float:
        pid = self._pid()
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        while self._watch.until("ready", self._actor, _LIMIT_S).pid == pid:
            pass
        return time.perf_counter() - began

    def _pid(self) -> int:
        pid = self._tree.actor(self._actor).pid
        assert pid is not None, f"{self._actor} has no process"
        return pid


class WithoutSpare(Actor):
    """The same, with the spare child that would have replaced it killed first."""

    def __init__(self, tree: Tree, watch: Watch, actor: str) -> None:
        super().__init__(tree, watch, actor)
        self.name += ", no spare was ready"

    def rest(self) -> None:
        limit = time.monotonic() + _LIMIT_S
        while not self._tree.actor("forkserver").children:
            assert time.monotonic() < limit, "the fork server makes no spare children"

    def _pid(self) -> int:
        pid = super()._pid()
        for spare in self._tree.actor("forkserver").children:
            os.kill(spare, signal.SIGKILL)
        return pid


class Served(Actor):
    """The same as a client sees it: it asks at the moment of the kill; until the answer."""

    def __init__(self, tree: Tree, watch: Watch, actor: str, service: str) -> None:
        super().__init__(tree, watch, actor)
        self.name += ", a request asked then is answered"
        self._service = service
        self._link = Link(tree.paths.router_socket)

    def kill(self) -> float:
        pid = self._pid()
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        self._link.request(self._service, "ping", b"", timeout_s=_LIMIT_S)
        return time.perf_counter() - began

    def close(self) -> None:
        self._link.close()


def run(say: Callable[[str], None], *, rounds: int = 100) -> Report:
    """Kills everything in turn, `rounds` times, each kill `PAUSE_S` after the recovery before it."""
    taken: dict[str, list[float]] = {}
    with ExitStack() as stack:
        subjects = _subjects(stack)
        slow = {subject.name for subject in subjects if isinstance(subject, Supervisord)}
        for number in range(rounds):
            say(f"recovery: round {number + 1} of {rounds}")
            for subject in subjects:
                if subject.name in slow and number % _SLOW_EVERY:
                    continue
                time.sleep(PAUSE_S)  # part of the measurement: kills do not come faster than this
                subject.rest()
                taken.setdefault(subject.name, []).append(subject.kill() * 1000)
    return _report(taken)


def _subjects(stack: ExitStack) -> list[Subject]:
    tree = stack.enter_context(Tree())
    watch = Watch(tree)
    stack.callback(watch.close)
    served = Served(tree, watch, "agent.0", "agent")
    stack.callback(served.close)
    found: list[Subject] = [Actor(tree, watch, name) for name in ("agent.0", "store", "router")]
    found += [WithoutSpare(tree, watch, "agent.0"), served]
    for peer in _PEERS:
        if not peer.missing():
            child = peer()
            stack.callback(child.close)
            found.append(child)
    return found


_PEERS: tuple[type[Supervised], ...] = (Exec, Runit, Supervisord)


def _report(taken: dict[str, list[float]]) -> Report:
    report = Report(
        "Recovery: from SIGKILL to ready, in ms",
        "The process is killed from outside, all in turn in one run. The peers' child imports zmq, msgspec and "
        "asyncio, connects a socket and reports; Fusion's are its own actors.",
        {"kills": 0, "p50": 2, "p99": 2, "max": 2, "p50 to runit's": 3},
    )
    runit = taken.get(Runit.name)
    for name, samples in taken.items():
        row = Row(
            name,
            {
                "kills": len(samples),
                "p50": percentile(samples, 50),
                "p99": percentile(samples, 99),
                "max": max(samples),
            },
        )
        if runit:
            row.values["p50 to runit's"] = percentile(samples, 50) / percentile(runit, 50)
        _judge(row)
        report.rows.append(row)
    report.rows += [
        Row(peer.name, note=f"skipped: {peer.missing()} is not installed")
        for peer in _PEERS
        if peer.missing()
    ]
    return report


def _judge(row: Row) -> None:
    if not row.name.startswith("Fusion") or "answered" in row.name:
        return
    if "no spare" in row.name:
        row.target = f"p50 ≤ {_TARGET_WITHOUT_SPARE:g}"
        row.met = row.values["p50"] <= _TARGET_WITHOUT_SPARE
        return
    row.target = f"p50 ≤ {_TARGETS['p50']:g}, p99 ≤ {_TARGETS['p99']:g}, p50 ≤ 1/8 of runit's"
    row.met = (
        all(row.values[column] <= limit for column, limit in _TARGETS.items())
        and row.values.get("p50 to runit's", 0.0) <= _SHARE_OF_RUNIT
    )
