"""The signs of life: taking note of them, and judging their absence. (Actions of the table.)"""

from __future__ import annotations

from fusiond.supervision import deadlines, ends, lives
from fusiond.supervision.events import ActorEvent, Beat, Loading, Ready, StopSeen, Tick
from fusiond.supervision.state import Child
from fusiond.supervision.turn import Turn


def ignore(_turn: Turn, _child: Child, _event: ActorEvent | Tick) -> None:
    """Nothing is to be done."""


def hear(turn: Turn, child: Child, _: Beat) -> None:
    turn.put(child, last_seen=turn.now, stop_seen_at=None, excuses=0)


def load(turn: Turn, child: Child, _: Loading) -> None:
    """No heartbeats are expected from here on, only an end within the start-up time."""
    turn.put(child, last_seen=turn.now, loading_at=turn.now, stop_seen_at=None, excuses=0)


def loaded(turn: Turn, child: Child, _: Ready) -> None:
    """Heartbeats are expected again. One that becomes ready while it is being ended has been ready too."""
    ready_at = turn.now if child.ready_at is None else child.ready_at
    child = turn.put(
        child, last_seen=turn.now, loading_at=None, stop_seen_at=None, excuses=0, ready_at=ready_at
    )
    if child.state == "ready":
        lives.recover(turn, child)  # a promoted standby serves now


def note_stop(turn: Turn, child: Child, _: StopSeen) -> None:
    """It is not continued, for it would act once more: it gets what any silence gets, and no stack dump."""
    if child.stop_seen_at is None:
        turn.put(child, stop_seen_at=turn.now)


def judge(turn: Turn, child: Child, _: Tick) -> None:
    failures = deadlines.settled(child, turn.limits, turn.now)
    if failures != child.failures:
        child = turn.put(child, failures=failures)
    child, cause = deadlines.overdue(turn, child)
    if cause is not None:
        ends.condemn(turn, child, cause)
