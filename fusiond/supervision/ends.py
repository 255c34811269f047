"""How lives end: politely, by force, by themselves; and what that leads to. (Actions of the table.)"""

from __future__ import annotations

from fusiond.supervision import deadlines, lives
from fusiond.supervision.effects import Drain, Dump, Signal
from fusiond.supervision.events import (
    Exited,
    RestartAsked,
    Spawned,
    SpawnFailed,
    SpecChanged,
    SpecRemoved,
    StartAsked,
    StopAsked,
    StuckReported,
    Tick,
)
from fusiond.supervision.lifecycle import RESTARTS
from fusiond.supervision.state import Cause, Child, LastExit, Then
from fusiond.supervision.turn import Turn

TERM_S = 1.0
"""From TERM to KILL, or half of the grace if that is less."""

KILL_AGAIN_S = 1.0
"""KILL is repeated until the exit is seen."""

_STOP = Cause("stop")
_START = Cause("restart")
_RELOAD = Cause("reload")

# --- politely -----------------------------------------------------------------------------------------------


def drain(turn: Turn, child: Child, cause: Cause, then: Then) -> Child:
    """The polite word now, TERM after the grace, KILL after that."""
    child = turn.enter(
        child,
        "draining",
        cause=cause,
        then=then,
        ending="drained",
        wake_at=turn.now + child.spec.shutdown_grace_s,
        failures=deadlines.settled(child, turn.limits, turn.now),
    )
    if child.pid is not None:
        turn.emit(Drain(child.spec.name, child.generation))
    return child


def drain_to_stop(turn: Turn, child: Child, _: StopAsked) -> None:
    drain(turn, child, _STOP, "stop")


def drain_to_restart(turn: Turn, child: Child, event: RestartAsked) -> None:
    drain(turn, child, Cause(event.reason, event.detail), "spawn")


def drain_to_change(turn: Turn, child: Child, event: SpecChanged) -> None:
    drain(turn, turn.put(child, next_spec=event.spec), _RELOAD, "spawn")


def drain_to_forget(turn: Turn, child: Child, _: SpecRemoved) -> None:
    drain(turn, child, _RELOAD, "forget")


def _redirect(turn: Turn, child: Child, cause: Cause, then: Then) -> Child:
    """It is on its way out already; only what follows changes, and, unless it must be killed, why."""
    was = child.cause
    return turn.put(child, then=then, cause=was if was and not was.polite else cause)


def redirect_to_stop(turn: Turn, child: Child, _: StopAsked) -> None:
    if child.then != "forget":
        _redirect(turn, child, _STOP, "stop")


def redirect_to_start(turn: Turn, child: Child, _: StartAsked) -> None:
    if child.then == "stop":
        _redirect(turn, child, _START, "spawn")


def redirect_to_restart(turn: Turn, child: Child, event: RestartAsked) -> None:
    if child.then != "forget":
        _redirect(turn, child, Cause(event.reason, event.detail), "spawn")


def redirect_to_change(turn: Turn, child: Child, event: SpecChanged) -> None:
    """One that was being stopped by hand stays stopped; one that was being dismissed is wanted again."""
    child = turn.put(child, next_spec=event.spec)
    if child.then != "stop":
        _redirect(turn, child, _RELOAD, "spawn")


def redirect_to_forget(turn: Turn, child: Child, _: SpecRemoved) -> None:
    _redirect(turn, child, _RELOAD, "forget")


# --- by force -----------------------------------------------------------------------------------------------


def condemn(turn: Turn, child: Child, cause: Cause) -> None:
    """It does not live as it should: a stack dump, then KILL. One stopped by a signal can dump nothing."""
    turn.record("missed", child, cause.detail, seconds=turn.now - child.last_seen)
    child = turn.enter(
        child,
        "draining",
        cause=cause,
        ending="condemned",
        failures=deadlines.settled(child, turn.limits, turn.now),
        lost_at=turn.now if child.lost_at is None else child.lost_at,
    )
    if child.pid is None or child.stop_seen_at is not None:
        _kill(turn, child)
    else:
        turn.emit(Dump(child.spec.name, child.generation))
        turn.put(child, wake_at=turn.now + turn.limits.dump_s)


def condemn_stuck(turn: Turn, child: Child, _: StuckReported) -> None:
    if child.loading:  # it has said that it would not hear
        return
    if child.cause is None or child.cause.polite:
        condemn(turn, child, Cause("stuck", "did not confirm a cancel"))


def _kill(turn: Turn, child: Child) -> None:
    if child.pid is not None:
        turn.emit(Signal(child.spec.name, child.generation, "KILL"))
        if child.ending != "killed":
            turn.record("killed", child, _why(child))
            child = turn.put(child, ending="killed")
    turn.put(child, wake_at=turn.now + KILL_AGAIN_S)


def _why(child: Child) -> str:
    if child.cause is None:
        return ""
    return f"{child.cause.reason}: {child.cause.detail}" if child.cause.detail else child.cause.reason


def escalate(turn: Turn, child: Child, _: Tick) -> None:
    """The next, harder means when the time of the last one is over; hanging while it drains cuts it short."""
    child, cause = deadlines.overdue(turn, child)
    if cause is not None:
        condemn(turn, child, cause)
    elif child.wake_at is None or child.wake_at > turn.now:
        return
    elif child.ending == "drained" and child.pid is not None:
        turn.emit(Signal(child.spec.name, child.generation, "TERM"))
        wait = min(TERM_S, child.spec.shutdown_grace_s / 2)
        turn.put(child, ending="termed", wake_at=turn.now + wait)
    else:
        _kill(turn, child)


def adopt_unwanted(turn: Turn, child: Child, event: Spawned) -> None:
    """Its end was decided before it existed."""
    child = turn.put(child, pid=event.pid)
    turn.record("started", child, seconds=turn.now - child.spawned_at)
    if child.cause is not None and child.cause.polite:
        drain(turn, child, child.cause, child.then)
    else:
        _kill(turn, child)


# --- by itself, and after any end ---------------------------------------------------------------------------


def bury(turn: Turn, child: Child, event: Exited) -> None:
    words = f"{event.detail}: {event.message}" if event.message else event.detail
    turn.record("exited", child, words)
    if child.cause is not None and child.cause.reason != "stop":
        last = LastExit(child.cause.reason, child.cause.detail or event.detail, turn.now)
    else:
        last = LastExit(event.reason, words if event.reason == "exit" else event.detail, turn.now)
    _follow(turn, child, last, normal=event.normal and child.cause is None)


def miscarry(turn: Turn, child: Child, event: SpawnFailed) -> None:
    words = f"could not be started: {event.message}"
    turn.record("exited", child, words)
    _follow(turn, child, LastExit("exit", words, turn.now), normal=False)


def _follow(turn: Turn, child: Child, last: LastExit, *, normal: bool) -> None:
    """What becomes of a child whose process is gone: what was decided for it, or what the rules decide."""
    then = child.then
    lived = child.ready_at is not None and last.reason != "start_timeout"
    child = turn.put(
        child,
        **lives.NO_PROCESS,
        failures=deadlines.settled(child, turn.limits, turn.now),
        last_exit=last,
        lost_at=turn.now if child.lost_at is None else child.lost_at,
    )
    if then == "forget":
        turn.remove(child)
    elif then == "stop" or turn.phase != "running":
        _rest(turn, child, by_hand=then == "stop")
    elif then == "spawn":
        lives.replace_by_hand(turn, child)
    elif RESTARTS[child.spec.restart][normal]:
        lives.replace(turn, child, had_been_ready=lived)
    else:
        _rest(turn, child, by_hand=False)


def _rest(turn: Turn, child: Child, *, by_hand: bool) -> None:
    child = turn.enter(
        child, "stopped", by_hand=by_hand, lost_at=None, wake_at=None, failures=0,
        spec=child.next_spec or child.spec, next_spec=None,
    )  # fmt: skip
    turn.record("stopped", child, "by hand" if by_hand else "")


def stand_down(turn: Turn, child: Child, _: StopAsked) -> None:
    """There is no process to end; it only waits no longer."""
    if child.state == "stopped":
        turn.put(child, by_hand=True)
    else:
        _rest(turn, child, by_hand=True)


def forget(turn: Turn, child: Child, _: SpecRemoved) -> None:
    turn.remove(child)
