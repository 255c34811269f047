"""A drill: faults after a plan that the seed alone decides, under load, and what came of it."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from fusionctl.client import Client
from fusionctl.loads import Load, RequestCounts
from fusiond.errors import FusionError, NotRunning
from fusiond.protocol.control import Health, KillReport

KINDS = {"KILL": 6, "TERM": 1, "SEGV": 1, "STOP": 1, "block": 1}
"""Every kind of fault, and how often it is chosen. A signal, or a fault of its own."""
_HANGS = ("STOP", "block")
_PAUSE = (0.3, 1.0)  # seconds between two faults
_REST, _REST_AFTER_HANG = 1.0, 3.0  # seconds that an actor is let alone: about what it takes to be noticed
_PATIENCE = 60.0  # seconds after which an answer counts as lost, once no more faults are committed
_SETTLING = 15.0  # seconds that the tree has to be whole again
_LOOK = 0.1


class Step(NamedTuple):
    """A fault to commit, `at` seconds after the beginning at the earliest."""

    at: float
    actor: str
    kind: str


def plan(seed: int, seconds: float, actors: Iterable[str]) -> list[Step]:
    """The faults of a drill: the same for the same arguments. That of a longer drill begins with that of a shorter."""
    chance = random.Random(seed)  # noqa: S311 — to be repeated, not to be secret
    free = dict.fromkeys(sorted(actors), 0.0)
    steps: list[Step] = []
    at = 0.0
    while True:
        at = max(at + chance.uniform(*_PAUSE), min(free.values()))
        if at >= seconds:
            return steps
        actor = chance.choice([name for name, when in free.items() if when <= at])
        (kind,) = chance.choices(list(KINDS), list(KINDS.values()))
        free[actor] = at + (_REST_AFTER_HANG if kind in _HANGS else _REST)
        steps.append(Step(at, actor, kind))


class Spread(msgspec.Struct, frozen=True):
    """Of some times in ms; None where there are none."""

    p50: float | None = None
    p99: float | None = None
    max: float | None = None


def spread(times: Iterable[float | None]) -> Spread:
    """By nearest rank; what is not known is left out."""
    known = sorted(time for time in times if time is not None)
    if not known:
        return Spread()
    p50, p99 = (known[math.ceil(part * len(known)) - 1] for part in (0.5, 0.99))
    return Spread(p50, p99, known[-1])


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """The faults of one kind at one actor, each measured from the signal on."""

    actor: str
    kind: str
    count: int
    noticed_ms: Spread
    respawned_ms: Spread
    ready_ms: Spread


class DrillReport(msgspec.Struct, frozen=True, kw_only=True):
    """A drill as `--json` prints it. `recovery_ms`: from signal to ready, of all faults."""

    seed: int
    seconds: int
    faults: list[Faults]
    recovery_ms: Spread
    requests: RequestCounts
    processes_left: int

    @property
    def passed(self) -> bool:
        """Nothing was lost, doubled or failed, and nobody was left behind."""
        asked = self.requests
        return not (asked.lost or asked.doubled or asked.failed or self.processes_left)


def grouped(committed: Iterable[tuple[Step, KillReport]]) -> list[Faults]:
    """By actor and kind, in that order."""
    groups: dict[tuple[str, str], list[KillReport]] = {}
    for step, report in committed:
        groups.setdefault((step.actor, step.kind), []).append(report)
    return [
        Faults(
            actor=actor,
            kind=kind,
            count=len(reports),
            noticed_ms=spread(report.noticed_ms for report in reports),
            respawned_ms=spread(report.respawned_ms for report in reports),
            ready_ms=spread(report.ready_ms for report in reports),
        )
        for (actor, kind), reports in sorted(groups.items())
    ]


class Drill:
    """One drill on a running tree. `interrupted`: it was cancelled. `away`: actors that have not come back.

    `tell` is told how far it has come: seconds, faults, requests completed.
    """

    def __init__(self, client: Client, load: Load, steps: Sequence[Step]) -> None:
        self.interrupted = False
        self.away: list[str] = []
        self._client, self._load, self._steps = client, load, steps
        self._committed: list[tuple[Step, KillReport]] = []
        self._locks = {step.actor: asyncio.Lock() for step in steps}

    async def run(self, seed: int, seconds: int, tell: Callable[[float, int, int], None]) -> DrillReport:
        """Drills for `seconds`, or until it is cancelled, and reports. Raises what the daemon's end is told as."""
        try:
            await self._run(seconds, tell)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None:
                task.uncancel()  # what follows is not to be broken off
            self.interrupted = self._load.broken_off = True
        except (FusionError, ExceptionGroup) as error:
            with suppress(FusionError):
                await self._load.settle()
            raise error.exceptions[0] if isinstance(error, ExceptionGroup) else error from None
        left = await self._settle()
        return DrillReport(
            seed=seed,
            seconds=seconds,
            faults=grouped(self._committed),
            recovery_ms=spread(report.ready_ms for _, report in self._committed),
            requests=await self._load.settle(),
            processes_left=left,
        )

    async def _run(self, seconds: int, tell: Callable[[float, int, int], None]) -> None:
        await self._load.begin()
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(self._tell(began, tell))
            workers = [group.create_task(work) for work in self._load.workers()]
            faults = []
            for step in self._steps:
                await asyncio.sleep(began + step.at - loop.time())
                faults.append(group.create_task(self._commit(step)))
            await asyncio.sleep(began + seconds - loop.time())
            if faults:
                await asyncio.wait(faults)
            self._load.over = True
            await asyncio.wait(workers, timeout=_PATIENCE)
            for task in (telling, *workers):
                task.cancel()

    async def _tell(self, began: float, tell: Callable[[float, int, int], None]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            tell(loop.time() - began, len(self._committed), self._load.completed)
            await asyncio.sleep(_LOOK)

    async def _commit(self, step: Step) -> None:
        """Commits the fault once the one before at this actor is made good; never, if it has no process for long."""
        loop = asyncio.get_running_loop()
        async with self._locks[step.actor]:
            until = loop.time() + _SETTLING
            while loop.time() < until:
                try:
                    report = await self._fault(step)
                except NotRunning:  # between two processes, like a standby that was promoted
                    await asyncio.sleep(_LOOK)
                else:
                    self._committed.append((step, report))
                    return

    async def _fault(self, step: Step) -> KillReport:
        if step.kind == "block":
            return await self._client.kill(step.actor, fault="block")
        return await self._client.kill(step.actor, step.kind)

    async def _settle(self) -> int:
        """Waits until the tree is whole; returns how many processes belong to nobody in it."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _SETTLING
        while True:
            health = await self._client.health()
            self.away = away(health)
            left = strangers(health)
            if not (self.away or left) or loop.time() > until:
                return left
            await asyncio.sleep(_LOOK)


def away(health: Health) -> list[str]:
    """The actors that do not serve and are meant to."""
    return [actor.name for actor in health.actors if actor.state not in ("ready", "standby", "stopped")]


def strangers(health: Health) -> int:
    """How many descendants of the supervisor are nobody's in `health`, nor descendants of somebody there.

    The supervisor is a subreaper: a process whose parent has died is its child.
    """
    import psutil

    known = {pid for actor in health.actors for pid in (actor.pid, *actor.children)}
    try:
        children = psutil.Process(health.supervisor.pid).children()
        return sum(1 + len(child.children(recursive=True)) for child in children if child.pid not in known)
    except psutil.NoSuchProcess:  # one ended as we looked: the next look will tell
        return 1
