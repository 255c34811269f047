"""What is to be done, as the policy says. The order of a step's effects is the order of doing them."""

from __future__ import annotations

from typing import Literal

import msgspec

RecordKind = Literal[
    "started",  # the process exists; ms: since it was asked for
    "ready",  # it serves; ms: since its process was asked for
    "missed",  # a sign of life did not come; detail: which
    "killed",  # SIGKILL, sent by us; detail: why
    "exited",  # the process is gone, or could not be made; detail: how
    "replaced",  # it serves again after a loss; ms: since the loss was noticed
    "backed_off",  # the next try waits; ms: for how long
    "failed",  # given up but for a slow probe; ms: until that
    "stopped",  # its process is gone and is not replaced
    "promoted",  # a standby's process has taken the name; detail: which standby
]


class Spawn(msgspec.Struct, frozen=True):
    """Make a process for this generation, by the spec that the new state holds.

    To be answered with `Spawned` or `SpawnFailed`, once.
    """

    name: str
    generation: int


class Promote(msgspec.Struct, frozen=True):
    """The process of `standby` is `name` of this generation from now on.

    It is to be told, and its events are to be reported under that name: under the old one they are ignored.
    """

    name: str
    generation: int
    standby: str


class Drain(msgspec.Struct, frozen=True):
    """Say the polite word on its lifeline: take nothing new, finish, exit."""

    name: str
    generation: int


class Signal(msgspec.Struct, frozen=True):
    """Send this signal. KILL means the process, then its group; it comes again until the exit is seen."""

    name: str
    generation: int
    signal: Literal["TERM", "KILL"]


class Dump(msgspec.Struct, frozen=True):
    """Send the signal at which it writes its stacks to its log. KILL follows shortly."""

    name: str
    generation: int


class Record(msgspec.Struct, frozen=True):
    """Something for the record. `pid`: the process it is about, if there is one. `ms`: see `RecordKind`."""

    kind: RecordKind
    actor: str
    generation: int
    pid: int | None = None
    detail: str = ""
    ms: float | None = None


class Finished(msgspec.Struct, frozen=True):
    """After `Shutdown`: no process is left. Comes once."""


Effect = Spawn | Promote | Drain | Signal | Dump | Record | Finished
