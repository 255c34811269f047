"""The door of the supervision: one step, and the time of the next `Tick`.

The caller feeds events in the order in which it learns of them, performs the effects in their order, and
answers each `Spawn` with `Spawned` or `SpawnFailed` before it passes on what that process says. It may feed a
`Tick` at any time; it must at `next_wake`. What has been waiting to be read is to be read before a `Tick`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fusiond.supervision import deadlines, ends, lives, signs
from fusiond.supervision.effects import Effect, Finished
from fusiond.supervision.events import (
    ActorEvent,
    Beat,
    Boot,
    Event,
    ProcessEvent,
    Reconfigured,
    RestartAsked,
    Shutdown,
    Spawned,
    SpawnFailed,
    SpecChanged,
    SpecRemoved,
    StartAsked,
    StopAsked,
    Tick,
)
from fusiond.supervision.lifecycle import TABLE, Action, ImpossibleTransition
from fusiond.supervision.spec import ActorSpec
from fusiond.supervision.state import Child, Past, Supervision
from fusiond.supervision.turn import Turn

CORE_KINDS = frozenset({"router", "store", "forkserver"})
"""What the others need while they drain; it goes last."""

HISTORY = 8
"""How many past events a child remembers."""

_BEGINNINGS = (Spawned, SpawnFailed)

ACTIONS: Mapping[Action, Callable[[Turn, Child, Any], None]] = {
    "ignore": signs.ignore,
    "hear": signs.hear,
    "load": signs.load,
    "loaded": signs.loaded,
    "note_stop": signs.note_stop,
    "judge": signs.judge,
    "adopt": lives.adopt,
    "arrive": lives.arrive,
    "start": lives.start,
    "start_changed": lives.start_changed,
    "adopt_spec": lives.adopt_spec,
    "try_again": lives.try_again,
    "take_over": lives.take_over,
    "refill": lives.refill,
    "adopt_unwanted": ends.adopt_unwanted,
    "miscarry": ends.miscarry,
    "bury": ends.bury,
    "condemn_stuck": ends.condemn_stuck,
    "escalate": ends.escalate,
    "stand_down": ends.stand_down,
    "forget": ends.forget,
    "drain_to_stop": ends.drain_to_stop,
    "drain_to_restart": ends.drain_to_restart,
    "drain_to_change": ends.drain_to_change,
    "drain_to_forget": ends.drain_to_forget,
    "redirect_to_stop": ends.redirect_to_stop,
    "redirect_to_start": ends.redirect_to_start,
    "redirect_to_restart": ends.redirect_to_restart,
    "redirect_to_change": ends.redirect_to_change,
    "redirect_to_forget": ends.redirect_to_forget,
}


def step(
    state: Supervision, event: Event, now: float, jitter: float = 0.5
) -> tuple[Supervision, tuple[Effect, ...]]:
    """What becomes of `state` by `event`, and what is to be done.

    `now`: seconds, never less than in the step before. `jitter`: a fresh draw from [0, 1], for the back-off.
    Raises `ImpossibleTransition`; the state is then as it was. An order for an unknown name changes nothing.
    """
    turn = Turn(state, now, jitter)
    if isinstance(event, ActorEvent):
        _pass_on(turn, event)
    elif isinstance(event, Tick):
        _tick(turn, event)
    elif isinstance(event, Shutdown):
        _shut_down(turn)
    else:
        _configure(turn, event)
    _work_off(turn)
    if turn.phase != "running":
        _close(turn)
    return turn.result()


def next_wake(state: Supervision) -> float | None:
    """The earliest time at which a `Tick` could change anything; None if time alone changes nothing."""
    times = (deadlines.wakes_at(child, state.limits) for child in state.children.values())
    return min((at for at in times if at is not None), default=None)


def _pass_on(turn: Turn, event: ActorEvent) -> None:
    if turn.phase == "running" or not isinstance(event, StartAsked | RestartAsked):
        turn.post(event)


def _tick(turn: Turn, event: Tick) -> None:
    intervals = [child.spec.heartbeat_interval_s for child in turn.children.values()]
    turn.late = bool(intervals) and event.late_s > min(intervals) / 2
    turn.posted.extend((name, event) for name in turn.children)


def _configure(turn: Turn, event: Boot | Reconfigured) -> None:
    """What is wanted no more goes, last first; what has changed is replaced; what is new begins."""
    if turn.phase != "running":
        return
    wanted = {spec.name: spec for spec in event.specs}
    if len(wanted) != len(event.specs):
        raise ValueError("two actors of one name")
    if isinstance(event, Reconfigured):
        turn.limits = event.limits or turn.limits
    elif turn.children:
        raise ImpossibleTransition("the supervisor", "Boot for the second time", turn.now)
    known = turn.children
    for name in reversed(known):
        if name not in wanted:
            turn.post(SpecRemoved(name))
    turn.touched = True
    turn.children = {name: known.get(name) or _unborn(turn, spec) for name, spec in wanted.items()} | known
    for name, spec in wanted.items():
        if name not in known:
            turn.post(StartAsked(name))
        else:
            _compare(turn, known[name], spec)


def _unborn(turn: Turn, spec: ActorSpec) -> Child:
    return Child(spec=spec, state="stopped", since=turn.now, generation=turn.retired.get(spec.name, 0))


def _compare(turn: Turn, child: Child, spec: ActorSpec) -> None:
    """Patience and rules hold for the process that runs; another fingerprint needs another process."""
    planned = child.next_spec or child.spec
    if spec.fingerprint != planned.fingerprint or child.then == "forget":
        turn.post(SpecChanged(spec.name, spec))
    elif spec != planned:
        turn.put(child, **{"spec" if child.next_spec is None else "next_spec": spec})


def _shut_down(turn: Turn) -> None:
    """The first wave: all but the core, last first; and whatever has no process."""
    if turn.phase != "running":
        return
    turn.phase, turn.touched = "closing", True
    for name, child in reversed(turn.children.items()):
        if child.spec.kind not in CORE_KINDS or not child.live:
            turn.post(StopAsked(name))


def _close(turn: Turn) -> None:
    """The second wave when the first is gone, and the end when all is."""
    live = [child for child in turn.children.values() if child.live]
    if turn.phase == "closing" and all(child.spec.kind in CORE_KINDS for child in live):
        turn.phase, turn.touched = "closing_core", True
        for child in reversed(live):
            turn.post(StopAsked(child.spec.name))
        _work_off(turn)
    if turn.phase == "closing_core" and not live:
        turn.phase, turn.touched = "finished", True
        turn.emit(Finished())


def _work_off(turn: Turn) -> None:
    """One event after the other by the table, those posted on the way included."""
    while turn.posted:
        name, event = turn.posted.popleft()
        child = turn.children.get(name)
        if child is not None and not _is_old(child, event, turn.now):
            _apply(turn, child, event)


def _is_old(child: Child, event: ActorEvent | Tick, now: float) -> bool:
    if not isinstance(event, ProcessEvent) or event.generation == child.generation:
        return False
    if event.generation > child.generation:
        raise _impossible(child, event, now, f"of generation {event.generation}, which is yet to come")
    return True


def _apply(turn: Turn, child: Child, event: ActorEvent | Tick) -> None:
    """One cell of the table."""
    kind = type(event)
    cell = TABLE[kind].get(child.state)
    if cell is None:
        raise _impossible(child, event, turn.now, f"in {child.state}")
    if isinstance(event, ProcessEvent) and child.live and (child.pid is None) != (kind in _BEGINNINGS):
        raise _impossible(child, event, turn.now, "before the process" if child.pid is None else "once more")
    ACTIONS[cell.action](turn, child, event)
    after = turn.children.get(child.spec.name)
    if ("gone" if after is None else after.state) not in cell.targets:
        raise _impossible(child, event, turn.now, f"leading from {child.state} to {after and after.state}")
    if after is not None and after is not child and kind is not Beat:
        past = Past(turn.now, kind.__name__, after.state)
        turn.put(after, history=(*child.history, past)[-HISTORY:])


def _impossible(child: Child, event: ActorEvent | Tick, now: float, why: str) -> ImpossibleTransition:
    who = f"{child.spec.name}#{child.generation}"
    return ImpossibleTransition(who, f"{type(event).__name__} {why} cannot be", now, child.history)
