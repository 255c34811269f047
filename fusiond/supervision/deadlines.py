"""When a child is to be looked at, and whether its time is up.

Whoever judges others by the clock must know that its own stood not still: if the supervisor was itself late
(starved, or stopped), what its children said may not have been read yet, and they may have been starved with
it. A child that would be judged in such a step gets an interval of grace instead; at most `EXCUSES` in one
silence, so that on a machine where the supervisor is always late the hung are still found.
"""

from __future__ import annotations

from fusiond.supervision.spec import Limits
from fusiond.supervision.state import Cause, Child
from fusiond.supervision.turn import Turn

EXCUSES = 8


def judged_at(child: Child) -> float | None:
    """When its silence or its start-up will have lasted too long; None if no sign of life is expected."""
    if child.ready_at is not None and not child.loading:
        at: float | None = child.last_seen + child.spec.heartbeat_timeout_s
    else:
        at = _started_by(child)
    if at is None or not child.live or child.ending not in (None, "drained"):
        return None
    return max(at, child.excused_until)


def _started_by(child: Child) -> float | None:
    """The end of its start-up or loading; a stop by a signal brings it forward, a polite end annuls it."""
    begun = child.spawned_at if child.loading_at is None else child.loading_at
    ends = [] if child.state == "draining" else [begun + child.spec.startup_timeout_s]
    if child.stop_seen_at is not None:
        ends.append(child.stop_seen_at + child.spec.heartbeat_timeout_s)
    return min(ends, default=None)


def overdue(turn: Turn, child: Child) -> tuple[Child, Cause | None]:
    """The child, excused if need be, and why it must be killed, None if it need not."""
    at = judged_at(child)
    if at is None:
        return child, None
    if turn.late and child.excuses < EXCUSES:
        until = turn.now + child.spec.heartbeat_interval_s
        if at < until:
            child = turn.put(child, excused_until=until, excuses=child.excuses + 1)
        return child, None
    return child, _cause(child, turn.now) if at <= turn.now else None


def _cause(child: Child, now: float) -> Cause:
    if child.stop_seen_at is not None:
        return Cause("hung", "stopped by a signal")
    if child.ready_at is not None and not child.loading:
        return Cause("hung", f"no heartbeat for {(now - child.last_seen) * 1000:.0f} ms")
    return Cause("start_timeout", f"not ready after {child.spec.startup_timeout_s:g} s")


def stable_at(child: Child, limits: Limits) -> float | None:
    """When its failures will be forgotten; None if there are none, or it is not ready."""
    if not child.failures or child.ready_at is None or child.state not in ("ready", "standby"):
        return None
    return child.ready_at + limits.stable_s


def settled(child: Child, limits: Limits, now: float) -> int:
    """Its failures, none if it has been ready for long enough."""
    at = stable_at(child, limits)
    return 0 if at is not None and at <= now else child.failures


def wakes_at(child: Child, limits: Limits) -> float | None:
    """The earliest time at which the passing of time changes something about it."""
    times = (judged_at(child), child.wake_at, stable_at(child, limits))
    return min((at for at in times if at is not None), default=None)
