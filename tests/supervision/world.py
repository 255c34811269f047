"""A small simulated world: it performs the policy's effects on imaginary processes and watches what must always hold.

Whatever drives it decides which process speaks, hangs or dies and when time passes; the world asserts the invariants
after each step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fusiond.supervision import policy
from fusiond.supervision.effects import Drain, Dump, Effect, Finished, Promote, Signal, Spawn
from fusiond.supervision.events import (
    Beat,
    Boot,
    Event,
    Exited,
    Loading,
    Ready,
    Reconfigured,
    RestartAsked,
    Shutdown,
    Spawned,
    SpawnFailed,
    StartAsked,
    StopSeen,
    Tick,
)
from fusiond.supervision.spec import ActorSpec, Limits
from fusiond.supervision.state import Supervision

BY_HAND = (Boot, Reconfigured, StartAsked, RestartAsked)


@dataclass
class Process:
    """`heard`: the identity under which it is heard. `silent`: it neither beats nor obeys TERM."""

    pid: int
    name: str
    generation: int
    beats: bool = False
    silent: bool = False
    stopped: bool = False
    drained: bool = False
    alive: bool = True
    status: str = "SIGKILL"


@dataclass
class World:
    """`spawns`: the times of the automatic spawns of each actor. `pending`: asked for and not answered yet."""

    specs: tuple[ActorSpec, ...]
    limits: Limits = field(default_factory=Limits)
    now: float = 0.0
    jitter: float = 0.5
    finished: int = 0
    shutdown: bool = False
    pending: list[Spawn] = field(default_factory=list)
    processes: dict[int, Process] = field(default_factory=dict)
    spawns: dict[str, list[float]] = field(default_factory=dict)
    highest: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state = Supervision(limits=self.limits)
        self._pid = 0
        self.feed(Boot(self.specs))

    # --- what drives it ---

    def living(self) -> list[Process]:
        return [process for process in self.processes.values() if process.alive]

    def dead(self) -> list[Process]:
        """Those whose exit has not been reported yet."""
        return [process for process in self.processes.values() if not process.alive]

    def talking(self) -> list[Process]:
        return [process for process in self.living() if not process.silent]

    def answer(self, spawn: Spawn, *, well: bool) -> None:
        self.pending.remove(spawn)
        if not well:
            self.feed(SpawnFailed(spawn.name, spawn.generation, "no memory"))
            return
        self._pid += 1
        self.processes[self._pid] = Process(self._pid, spawn.name, spawn.generation)
        self.feed(Spawned(spawn.name, spawn.generation, self._pid))

    def become_ready(self, process: Process) -> None:
        process.beats = True
        self.feed(Ready(process.name, process.generation))

    def load(self, process: Process) -> None:
        process.beats = False
        self.feed(Loading(process.name, process.generation))

    def hang(self, process: Process) -> None:
        process.silent = True

    def stop_by_signal(self, process: Process) -> None:
        process.silent = process.stopped = True
        self.feed(StopSeen(process.name, process.generation))

    def die(self, process: Process, status: str) -> None:
        process.alive, process.status = False, status

    def report_exit(self, process: Process) -> None:
        del self.processes[process.pid]
        reason = "signal" if process.status.startswith("SIG") else "exit"
        normal = process.status == "status 0"
        self.feed(Exited(process.name, process.generation, reason, process.status, normal))  # type: ignore[arg-type]

    def report_all(self) -> None:
        while self.dead():
            self.report_exit(self.dead()[0])

    def pass_time(self, seconds: float) -> None:
        """Every process that can beats twice a second, and every wish for a `Tick` is granted in time."""
        end = self.now + seconds
        next_beats = self.now + 0.5
        while True:
            wake = policy.next_wake(self.state)
            at = min(next_beats, end if wake is None else max(wake, self.now))
            if at > end:
                break
            self.now = at
            if at == next_beats:
                next_beats += 0.5
                self._beat()
            elif wake is not None and wake <= at:
                self.tick()
            else:
                break
        self.now = end

    def _beat(self) -> None:
        for process in self.talking():
            if process.beats:
                self.feed(Beat(process.name, process.generation))

    def tick(self, late_s: float = 0.0) -> None:
        self.feed(Tick(late_s))
        wake = policy.next_wake(self.state)
        assert late_s or wake is None or wake > self.now, "a Tick left undone what was due"

    # --- what the policy does to it ---

    def feed(self, event: Event) -> None:
        before = self.state
        self.shutdown |= isinstance(event, Shutdown)
        self.state, effects = policy.step(before, event, self.now, self.jitter)
        for effect in effects:
            self._perform(effect, event, before)
        for name in before.children.keys() - self.state.children.keys():
            self.spawns.pop(name, None)  # should it come back, it begins with a clean record
        self._check()

    def _perform(self, effect: Effect, event: Event, before: Supervision) -> None:
        if isinstance(effect, Spawn):
            self._spawn(effect, event, before)
        elif isinstance(effect, Promote):
            self._promote(effect)
        elif isinstance(effect, Drain | Dump | Signal):
            self._touch(effect)
        elif isinstance(effect, Finished):
            self.finished += 1
            assert not self.processes
            assert not self.pending

    def _spawn(self, effect: Spawn, event: Event, before: Supervision) -> None:
        name = effect.name
        assert not self.shutdown, "spawned after Shutdown"
        assert not self._lives(name), "two live generations"
        assert effect.generation > self.highest.get(name, 0), "a generation came twice"
        self.highest[name] = effect.generation
        self.pending.append(effect)
        child = before.children.get(name)
        if not isinstance(event, BY_HAND) and not (child and child.then == "spawn"):
            times = self.spawns.setdefault(name, [])
            times.append(self.now)
            window = [t for t in times if t + self.limits.period_s > self.now]
            assert len(window) <= self.limits.intensity, "more automatic spawns than permitted"

    def _promote(self, effect: Promote) -> None:
        assert not self.shutdown, "promoted after Shutdown"
        assert not self._lives(effect.name), "two live generations"
        [process] = [p for p in self.processes.values() if p.name == effect.standby]
        process.name, process.generation = effect.name, effect.generation
        self.highest[effect.name] = effect.generation

    def _touch(self, effect: Drain | Dump | Signal) -> None:
        """All these go to a process that exists, or whose exit is under way."""
        [process] = [p for p in self.processes.values() if p.name == effect.name]
        assert process.generation == effect.generation
        if isinstance(effect, Drain):
            process.drained = True
        elif isinstance(effect, Dump):
            assert not process.stopped, "a stopped process was asked for its stacks"
        elif process.alive and (effect.signal == "KILL" or not process.silent):
            self.die(process, f"SIG{effect.signal}")

    def _lives(self, name: str) -> bool:
        asked = any(spawn.name == name for spawn in self.pending)
        return asked or any(process.name == name for process in self.processes.values())

    # --- what must always hold ---

    def _check(self) -> None:
        for name, child in self.state.children.items():
            mine = [process for process in self.processes.values() if process.name == name]
            assert [process.pid for process in mine] == ([] if child.pid is None else [child.pid])
            assert child.live == self._lives(name)
            assert (child.wake_at is not None) == (child.state in ("draining", "backoff", "failed"))
            assert (child.cause is not None) == (child.state == "draining") == (child.ending is not None)
        unrest = ("starting", "draining", "backoff", "failed")
        if any(child.state in unrest for child in self.state.children.values()):
            assert policy.next_wake(self.state) is not None, "somebody would wait for ever"
        assert self.finished == (self.state.phase == "finished")

    def end_well(self) -> None:
        """Every hung process is killed; after Shutdown all is gone."""
        for spawn in list(self.pending):
            self.answer(spawn, well=True)
        hung = [process for process in self.living() if process.silent]
        self.pass_time(12.0)
        assert not any(process.alive for process in hung), "a hung process was left alone"
        self.feed(Shutdown())
        for _ in range(3):
            for spawn in list(self.pending):
                self.answer(spawn, well=True)
            self.pass_time(4.0)
            self.report_all()
        assert self.state.phase == "finished"
        assert self.finished == 1
        assert policy.next_wake(self.state) is None
