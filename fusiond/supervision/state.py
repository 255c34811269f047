"""What the policy knows: each actor's child, and all of them. Times: seconds on one monotonic clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from fusiond.protocol.control import ExitReason, State
from fusiond.supervision.spec import ActorSpec, Limits

Ending = Literal["drained", "termed", "condemned", "killed"]
"""How far the ending of a process has come: the polite word said, TERM sent; or condemned, KILL sent."""

Then = Literal["decide", "spawn", "stop", "forget"]
"""What follows the end of a process: the restart rules decide, or somebody already has."""

Phase = Literal["running", "closing", "closing_core", "finished"]


class Cause(msgspec.Struct, frozen=True):
    """Why a process is being ended. `detail`: "" leaves it to how the process ends."""

    reason: ExitReason | Literal["stop"]
    detail: str = ""

    @property
    def polite(self) -> bool:
        """Somebody wants a healthy process gone, as against a process that must be killed."""
        return self.reason in ("stop", "restart", "rss", "reload")


class LastExit(msgspec.Struct, frozen=True):
    """How the last process ended. `recovered_s`: from the notice to its replacement being ready, or None."""

    reason: ExitReason
    detail: str
    at: float
    recovered_s: float | None = None


class Past(msgspec.Struct, frozen=True):
    """An event that changed something, and the state after it."""

    at: float
    event: str
    state: State


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """One actor, whether it has a process just now or not.

    `pid` is None from `Spawn` to `Spawned` too. `last_seen` is its last sign of life, at first its spawning.
    """

    spec: ActorSpec
    state: State
    since: float
    """When it entered `state`."""
    generation: int = 0
    pid: int | None = None
    next_spec: ActorSpec | None = None
    """The spec of its next process, where that differs."""

    spawned_at: float = 0.0
    """When its process was asked for."""
    ready_at: float | None = None
    """When this process became ready for the first time."""
    last_seen: float = 0.0
    loading_at: float | None = None
    stop_seen_at: float | None = None
    """When it was seen stopped by a signal, with no sign of life since."""
    excuses: int = 0
    """Graces for the supervisor's own lateness since the last sign of life."""
    excused_until: float = 0.0

    cause: Cause | None = None
    """Why its process is being ended; None if it is not."""
    ending: Ending | None = None
    then: Then = "decide"
    wake_at: float | None = None
    """draining: when the next, harder means is due. backoff, failed: when the next try is."""

    failures: int = 0
    """Failed lives in a row: see `intensity`."""
    restarts_at: tuple[float, ...] = ()
    """The automatic spawns and promotions within the restart period."""
    restarts: int = 0
    """Replacements since the daemon started."""
    by_hand: bool = False
    """Stopped because somebody asked for it."""
    last_exit: LastExit | None = None
    lost_at: float | None = None
    """When the loss was noticed that is not made good yet."""
    history: tuple[Past, ...] = ()

    @property
    def loading(self) -> bool:
        return self.loading_at is not None

    @property
    def live(self) -> bool:
        """It has a process, or one has been asked for."""
        return self.state in ("starting", "ready", "standby", "draining")

    @property
    def waiting(self) -> bool:
        """It has no process, and another try lies ahead."""
        return self.state in ("backoff", "failed")

    @property
    def degraded(self) -> bool:
        """Neither ready nor standby nor stopped by hand."""
        return self.state not in ("ready", "standby") and not (self.state == "stopped" and self.by_hand)


class Supervision(msgspec.Struct, frozen=True, kw_only=True):
    """All children, in the order of their specs, those being dismissed last. Never changed in place.

    `retired`: the last generation of every name that is no longer wanted, so that none is ever used twice.
    """

    limits: Limits = Limits()
    children: Mapping[str, Child] = {}
    phase: Phase = "running"
    retired: Mapping[str, int] = {}
