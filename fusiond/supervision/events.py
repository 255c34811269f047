"""What happens, as the policy is told. In-memory only: none of these travels between processes."""

from __future__ import annotations

from typing import Literal

import msgspec

from fusiond.supervision.spec import ActorSpec, Limits


class ActorEvent(msgspec.Struct, frozen=True):
    """Concerns one actor. For a name that nobody knows (any more) it is ignored."""

    name: str


class ProcessEvent(ActorEvent, frozen=True):
    """Comes from, or is about, the process of one generation. That of an old generation is ignored."""

    generation: int


# --- facts: the kernel's and the spawner's, always in order -------------------------------------------------


class Spawned(ProcessEvent, frozen=True):
    """The process exists. Each `Spawn` is answered by this or by `SpawnFailed`, once."""

    pid: int


class SpawnFailed(ProcessEvent, frozen=True):
    """No process could be made."""

    message: str


class StopSeen(ProcessEvent, frozen=True):
    """The kernel says that a signal has stopped the process (state T)."""


class Exited(ProcessEvent, frozen=True):
    """The process is gone.

    `detail`: "status 1", "SIGKILL". `normal`: exit status 0. `message`: its last words, "" if it had none.
    """

    reason: Literal["exit", "signal"]
    detail: str
    normal: bool = False
    message: str = ""


# --- words: sent by processes; the last of them may be read after the exit was seen -------------------------


class Ready(ProcessEvent, frozen=True):
    """It serves, or serves again after `Loading`."""


class Loading(ProcessEvent, frozen=True):
    """It is about to block for long: a new start-up deadline holds until the next `Ready`."""


class Beat(ProcessEvent, frozen=True):
    """A heartbeat."""


class StuckReported(ProcessEvent, frozen=True):
    """The router says that it did not confirm a cancel in time."""


# --- orders: a person's or the configuration's --------------------------------------------------------------


class StartAsked(ActorEvent, frozen=True):
    """Start it unless it runs."""


class RestartAsked(ActorEvent, frozen=True):
    """Replace it gracefully, whatever state it is in and whatever the limits say.

    `reason`: a person's wish, or that its process has become too large; `detail` then says how large.
    """

    reason: Literal["restart", "rss"] = "restart"
    detail: str = ""


class StopAsked(ActorEvent, frozen=True):
    """Stop it gracefully, until somebody starts it again."""


class Boot(msgspec.Struct, frozen=True):
    """The first event: start all of these, in this order."""

    specs: tuple[ActorSpec, ...]


class Reconfigured(msgspec.Struct, frozen=True):
    """These and no others are wanted from now on. `limits`: None leaves them as they are."""

    specs: tuple[ActorSpec, ...]
    limits: Limits | None = None


class Shutdown(msgspec.Struct, frozen=True):
    """End everything. Nothing is spawned any more; a second one changes nothing."""


class Tick(msgspec.Struct, frozen=True):
    """Time has passed. `late_s`: how much later than planned the supervisor's own loop came to it."""

    late_s: float = 0.0


# --- what one child does to another, and a new configuration to a child: posted by the policy to itself -----


class SpecChanged(ActorEvent, frozen=True):
    """Its spec has another fingerprint now, or has come back while its process was being dismissed."""

    spec: ActorSpec


class SpecRemoved(ActorEvent, frozen=True):
    """It is wanted no more."""


class Relieved(ActorEvent, frozen=True):
    """It waits for another try, and this standby has just become able to take its place."""

    standby: str


class Promoted(ActorEvent, frozen=True):
    """A standby has given its process away."""


Event = (
    Boot
    | Spawned
    | SpawnFailed
    | Ready
    | Loading
    | Beat
    | StopSeen
    | Exited
    | StuckReported
    | RestartAsked
    | StopAsked
    | StartAsked
    | Reconfigured
    | Shutdown
    | Tick
)
"""What `policy.step` takes."""
