"""How lives begin: spawning, arriving, trying again, taking a standby's place. (Actions of the table.)"""

from __future__ import annotations

from typing import Any

import msgspec

from fusiond.protocol.control import State
from fusiond.supervision import deadlines, intensity
from fusiond.supervision.effects import Promote, Spawn
from fusiond.supervision.events import ActorEvent, Promoted, Ready, Relieved, Spawned, SpecChanged, Tick
from fusiond.supervision.state import Child
from fusiond.supervision.turn import Turn

NO_PROCESS: dict[str, Any] = {
    "pid": None,
    "ready_at": None,
    "loading_at": None,
    "stop_seen_at": None,
    "excuses": 0,
    "excused_until": 0.0,
    "cause": None,
    "ending": None,
    "then": "decide",
    "wake_at": None,
}
"""What is left of a process that is no more."""


def spawn(turn: Turn, child: Child, *, automatic: bool) -> None:
    """The next generation. `automatic`: it counts in the restart window."""
    child = turn.enter(
        child,
        "starting",
        **NO_PROCESS,
        spec=child.next_spec or child.spec,
        next_spec=None,
        generation=child.generation + 1,
        spawned_at=turn.now,
        last_seen=turn.now,
        restarts_at=_counted(turn, child) if automatic else child.restarts_at,
        restarts=child.restarts + (child.lost_at is not None),
        by_hand=False,
    )
    turn.emit(Spawn(child.spec.name, child.generation))


def _counted(turn: Turn, child: Child) -> tuple[float, ...]:
    return (*intensity.within(child.restarts_at, turn.limits, turn.now), turn.now)


def adopt(turn: Turn, child: Child, event: Spawned) -> None:
    child = turn.put(child, pid=event.pid)
    turn.record("started", child, seconds=turn.now - child.spawned_at)


def arrive(turn: Turn, child: Child, _: Ready) -> None:
    """Its first word of being ready. A standby is offered to whoever waits for another try."""
    state: State = "ready" if child.spec.standby_for is None else "standby"
    child = turn.enter(
        child, state, ready_at=turn.now, last_seen=turn.now, loading_at=None, stop_seen_at=None, excuses=0
    )  # fmt: skip
    turn.record("ready", child, seconds=turn.now - child.spawned_at)
    recover(turn, child)
    waiting = next((c for c in turn.children.values() if c.waiting and _stands_for(child, c)), None)
    if waiting is not None and turn.phase == "running":
        turn.post(Relieved(waiting.spec.name, child.spec.name))


def recover(turn: Turn, child: Child) -> None:
    """The loss, if there was one, is made good."""
    if child.lost_at is None:
        return
    took = turn.now - child.lost_at
    last = child.last_exit and msgspec.structs.replace(child.last_exit, recovered_s=took)
    child = turn.put(child, lost_at=None, last_exit=last)
    turn.record("replaced", child, detail=_words(child), seconds=took)


def _words(child: Child) -> str:
    return f"{child.last_exit.reason}: {child.last_exit.detail}" if child.last_exit else ""


def start(turn: Turn, child: Child, _: ActorEvent) -> None:
    """By a person's word: at once, and what it did before is forgiven."""
    spawn(turn, turn.put(child, failures=0), automatic=False)


def start_changed(turn: Turn, child: Child, event: SpecChanged) -> None:
    start(turn, turn.put(child, next_spec=event.spec), event)


def adopt_spec(turn: Turn, child: Child, event: SpecChanged) -> None:
    turn.put(child, spec=event.spec)


def replace(turn: Turn, child: Child, *, had_been_ready: bool) -> None:
    """By the rules: a standby if there is one, else a new process, at once or when its time comes."""
    verdict = intensity.decide(
        had_been_ready=had_been_ready,
        failures=child.failures,
        times=child.restarts_at,
        limits=turn.limits,
        now=turn.now,
        jitter=turn.jitter,
    )
    child = turn.put(child, failures=verdict.failures)
    standby = standby_of(turn, child)
    if standby is not None:
        promote(turn, child, standby, automatic=True)
    elif verdict.state == "starting":
        spawn(turn, child, automatic=True)
    else:
        _wait(turn, child, verdict.state, verdict.at)


def _wait(turn: Turn, child: Child, state: intensity.Waiting, until: float) -> None:
    child = turn.enter(child, state, wake_at=until)
    detail = f"{child.failures} failed lives in a row" if child.failures else "restarted too often"
    turn.record("backed_off" if state == "backoff" else "failed", child, detail, seconds=until - turn.now)


def replace_by_hand(turn: Turn, child: Child) -> None:
    """What a person's or a new configuration's restart comes to after the exit: no limit applies."""
    child = turn.put(child, failures=0)
    standby = standby_of(turn, child)
    if standby is not None:
        promote(turn, child, standby, automatic=False)
    else:
        spawn(turn, child, automatic=False)


def try_again(turn: Turn, child: Child, _: Tick) -> None:
    if turn.phase == "running" and child.wake_at is not None and child.wake_at <= turn.now:
        spawn(turn, child, automatic=True)


def standby_of(turn: Turn, child: Child) -> Child | None:
    """A standby that is well and may take the child's place; none if the child is to get another spec."""
    if child.next_spec is not None:
        return None
    return next((c for c in turn.children.values() if _is_well(c, turn.now) and _stands_for(c, child)), None)


def _stands_for(standby: Child, child: Child) -> bool:
    return child.spec.standby_for is None and standby.spec.standby_for == child.spec.service


def _is_well(standby: Child, now: float) -> bool:
    if standby.state != "standby" or standby.loading or standby.stop_seen_at is not None:
        return False
    silent_at = deadlines.judged_at(standby)
    return silent_at is not None and silent_at > now


def promote(turn: Turn, child: Child, standby: Child, *, automatic: bool) -> None:
    """The standby's process becomes the child's next generation, ready at once; the standby begins anew.

    The loss is made good when the process says itself that it serves under its new name.
    """
    child = turn.enter(
        child,
        "ready",
        **NO_PROCESS | {"pid": standby.pid, "ready_at": turn.now},
        generation=child.generation + 1,
        spawned_at=standby.spawned_at,
        last_seen=standby.last_seen,
        restarts_at=_counted(turn, child) if automatic else child.restarts_at,
        restarts=child.restarts + (child.lost_at is not None),
        by_hand=False,
    )
    turn.emit(Promote(child.spec.name, child.generation, standby.spec.name))
    turn.record("promoted", child, detail=standby.spec.name)
    turn.post(Promoted(standby.spec.name))


def take_over(turn: Turn, child: Child, event: Relieved) -> None:
    promote(turn, child, turn.children[event.standby], automatic=True)


def refill(turn: Turn, standby: Child, _: Promoted) -> None:
    """A new process for a standby that gave its own away: neither loss nor failure, but the window holds.

    Not at once: loading a model would take the processor from whoever has just been promoted and has work to resume.
    """
    opens = intensity.opens_at(standby.restarts_at, turn.limits, turn.now)
    turn.enter(standby, "backoff", **NO_PROCESS | {"wake_at": max(opens, turn.now + turn.limits.refill_s)})
