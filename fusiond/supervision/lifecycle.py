"""The life of an actor: which event may come in which state, what is done then, and where it leads.

    starting ──► ready ──► draining ──► stopped            (standby: ready, for a standby)
       ▲  │        │          │
       │  ▼        ▼          ▼
       └─ backoff, failed ◄───┘                            (every end may lead back to starting, by the rules)

**States.** `starting`, `ready`, `standby` and `draining` are *live*: the child has a process, or one has been
asked for (`starting` and `draining` with no pid: the spawn is under way). `backoff`, `failed` and `stopped`
have none. `draining` is every way to the end, the polite one (the word on the lifeline, TERM, KILL) and the
hard one (stack dump, KILL): which of them, and why, say `Child.ending` and `Child.cause`; what follows the
end says `Child.then`.

**Events** are of three sorts, and the sort decides what an empty cell means:

- *Facts* (Spawned, SpawnFailed, StopSeen, Exited) come from the kernel and the spawner by one path, in order,
  one end for each beginning. A fact in a state where it cannot be is a defect of ours: the cell is missing,
  and `ImpossibleTransition` is raised.
- *Words* (Ready, Loading, Beat, StuckReported) are sent by processes on other paths, and the last of them may
  be read after the exit has been seen. Where there is no process they are ignored; before there is one they
  are impossible.
- *Orders* (StartAsked, RestartAsked, StopAsked, SpecChanged, SpecRemoved, and Tick, time's) are possible in
  every state.

`Relieved` and `Promoted` are what one child does to another; the policy posts them to itself.

Facts and words carry a generation. One of an old generation is ignored before the table is asked: whatever a
dead process still had to say concerns nobody.

**Cells** name an action (a small function in `signs`, `lives` or `ends`) and every state that may follow. A
state that is not among them raises too, so the table cannot lie. "gone" is not a state: the child is
forgotten.

**Invariants** that follow, and are tested: an actor has one live generation at most; a new one begins only
after the exit of the old one was seen; every live state that is not well has a deadline; every deadline ends
in KILL; KILL is repeated until the exit is seen; nothing but an order takes a child out of `stopped`, and
nothing leaves a child in `backoff` or `failed` for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from fusiond.errors import FusionError
from fusiond.protocol.control import State
from fusiond.supervision import events as ev
from fusiond.supervision.spec import Restart
from fusiond.supervision.state import Past

STATES: tuple[State, ...] = get_args(State)

Target = State | Literal["gone"]

Action = Literal[
    # signs of life
    "ignore", "hear", "load", "loaded", "note_stop", "judge",
    # how lives begin
    "adopt", "arrive", "start", "start_changed", "adopt_spec", "try_again", "take_over", "refill",
    # how they end
    "adopt_unwanted", "miscarry", "bury", "condemn_stuck", "escalate", "stand_down", "forget",
    "drain_to_stop", "drain_to_restart", "drain_to_change", "drain_to_forget",
    "redirect_to_stop", "redirect_to_start", "redirect_to_restart", "redirect_to_change",
    "redirect_to_forget",
]  # fmt: skip


class Cell(NamedTuple):
    """What is done, and the states that may follow."""

    action: Action
    targets: tuple[Target, ...]


def _do(action: Action, *targets: Target) -> Cell:
    return Cell(action, targets)


# fmt: off
TABLE: Mapping[type[ev.ActorEvent] | type[ev.Tick], Mapping[State, Cell]] = {
    # --- facts ---
    ev.Spawned: {
        "starting": _do("adopt", "starting"),
        "draining": _do("adopt_unwanted", "draining"),
    },
    ev.SpawnFailed: {
        "starting": _do("miscarry", "starting", "ready", "backoff", "failed", "stopped"),
        "draining": _do("miscarry", "starting", "ready", "backoff", "failed", "stopped", "gone"),
    },
    ev.StopSeen: {
        "starting": _do("note_stop", "starting"),
        "ready":    _do("note_stop", "ready"),
        "standby":  _do("note_stop", "standby"),
        "draining": _do("note_stop", "draining"),
    },
    ev.Exited: {
        "starting": _do("bury", "starting", "ready", "backoff", "failed", "stopped"),
        "ready":    _do("bury", "starting", "ready", "backoff", "failed", "stopped"),
        "standby":  _do("bury", "starting", "backoff", "failed", "stopped"),
        "draining": _do("bury", "starting", "ready", "backoff", "failed", "stopped", "gone"),
    },
    # --- words ---
    ev.Ready: {
        "starting": _do("arrive", "ready", "standby"),
        "ready":    _do("loaded", "ready"),
        "standby":  _do("loaded", "standby"),
        "draining": _do("loaded", "draining"),
        "backoff":  _do("ignore", "backoff"),
        "failed":   _do("ignore", "failed"),
        "stopped":  _do("ignore", "stopped"),
    },
    ev.Loading: {
        "starting": _do("load", "starting"),
        "ready":    _do("load", "ready"),
        "standby":  _do("load", "standby"),
        "draining": _do("load", "draining"),
        "backoff":  _do("ignore", "backoff"),
        "failed":   _do("ignore", "failed"),
        "stopped":  _do("ignore", "stopped"),
    },
    ev.Beat: {
        "starting": _do("hear", "starting"),
        "ready":    _do("hear", "ready"),
        "standby":  _do("hear", "standby"),
        "draining": _do("hear", "draining"),
        "backoff":  _do("ignore", "backoff"),
        "failed":   _do("ignore", "failed"),
        "stopped":  _do("ignore", "stopped"),
    },
    ev.StuckReported: {
        "starting": _do("condemn_stuck", "draining", "starting"),
        "ready":    _do("condemn_stuck", "draining", "ready"),
        "standby":  _do("condemn_stuck", "draining", "standby"),
        "draining": _do("condemn_stuck", "draining"),
        "backoff":  _do("ignore", "backoff"),
        "failed":   _do("ignore", "failed"),
        "stopped":  _do("ignore", "stopped"),
    },
    # --- orders ---
    ev.StartAsked: {
        "starting": _do("ignore", "starting"),
        "ready":    _do("ignore", "ready"),
        "standby":  _do("ignore", "standby"),
        "draining": _do("redirect_to_start", "draining"),
        "backoff":  _do("start", "starting"),
        "failed":   _do("start", "starting"),
        "stopped":  _do("start", "starting"),
    },
    ev.RestartAsked: {
        "starting": _do("drain_to_restart", "draining"),
        "ready":    _do("drain_to_restart", "draining"),
        "standby":  _do("drain_to_restart", "draining"),
        "draining": _do("redirect_to_restart", "draining"),
        "backoff":  _do("start", "starting"),
        "failed":   _do("start", "starting"),
        "stopped":  _do("start", "starting"),
    },
    ev.StopAsked: {
        "starting": _do("drain_to_stop", "draining"),
        "ready":    _do("drain_to_stop", "draining"),
        "standby":  _do("drain_to_stop", "draining"),
        "draining": _do("redirect_to_stop", "draining"),
        "backoff":  _do("stand_down", "stopped"),
        "failed":   _do("stand_down", "stopped"),
        "stopped":  _do("stand_down", "stopped"),
    },
    ev.SpecChanged: {
        "starting": _do("drain_to_change", "draining"),
        "ready":    _do("drain_to_change", "draining"),
        "standby":  _do("drain_to_change", "draining"),
        "draining": _do("redirect_to_change", "draining"),
        "backoff":  _do("start_changed", "starting"),
        "failed":   _do("start_changed", "starting"),
        "stopped":  _do("adopt_spec", "stopped"),
    },
    ev.SpecRemoved: {
        "starting": _do("drain_to_forget", "draining"),
        "ready":    _do("drain_to_forget", "draining"),
        "standby":  _do("drain_to_forget", "draining"),
        "draining": _do("redirect_to_forget", "draining"),
        "backoff":  _do("forget", "gone"),
        "failed":   _do("forget", "gone"),
        "stopped":  _do("forget", "gone"),
    },
    ev.Tick: {
        "starting": _do("judge", "starting", "draining"),
        "ready":    _do("judge", "ready", "draining"),
        "standby":  _do("judge", "standby", "draining"),
        "draining": _do("escalate", "draining"),
        "backoff":  _do("try_again", "backoff", "starting"),
        "failed":   _do("try_again", "failed", "starting"),
        "stopped":  _do("ignore", "stopped"),
    },
    # --- what one child does to another ---
    ev.Relieved: {
        "backoff":  _do("take_over", "ready"),
        "failed":   _do("take_over", "ready"),
    },
    ev.Promoted: {
        "standby":  _do("refill", "backoff"),
    },
}
# fmt: on

RESTARTS: Mapping[Restart, Mapping[bool, bool]] = {
    "permanent": {True: True, False: True},
    "transient": {True: False, False: True},
    "temporary": {True: False, False: False},
}
"""Whether a process that ended by itself is replaced: `RESTARTS[restart][normal]`."""


class ImpossibleTransition(FusionError):
    """The table has no such transition: a defect of ours or of our caller. The state stays as it was."""

    def __init__(self, who: str, what: str, now: float, history: Sequence[Past] = ()) -> None:
        before = ", ".join(f"{p.event} → {p.state} {now - p.at:.3f} s ago" for p in history) or "nothing"
        super().__init__(
            f"{who}: {what}; before it: {before}", advice="this is a defect of Fusion, please report it"
        )
        self.history = tuple(history)
