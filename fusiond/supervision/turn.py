"""One step under way: what has changed so far, what is to be done, what follows from it within the same step.

Actions are given a turn and the child they concern, and change the turn only. Nothing of the state before is
touched.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from fusiond.protocol.control import State
from fusiond.supervision.effects import Effect, Record, RecordKind
from fusiond.supervision.events import ActorEvent, Tick
from fusiond.supervision.spec import Limits
from fusiond.supervision.state import Child, Phase, Supervision

_replace = msgspec.structs.replace


class Turn:
    """`posted`: what is still to be worked on in this step, each with the name of the child it concerns.

    `late`: the supervisor itself came too late to judge anybody. `touched`: the state is another one.
    """

    __slots__ = (
        "_before",
        "children",
        "effects",
        "jitter",
        "late",
        "limits",
        "now",
        "phase",
        "posted",
        "retired",
        "touched",
    )

    def __init__(self, before: Supervision, now: float, jitter: float) -> None:
        self._before = before
        self.now = now
        self.jitter = jitter
        self.late = False
        self.touched = False
        self.limits: Limits = before.limits
        self.phase: Phase = before.phase
        self.children: dict[str, Child] = dict(before.children)
        self.retired = before.retired
        self.effects: list[Effect] = []
        self.posted: deque[tuple[str, ActorEvent | Tick]] = deque()

    def put(self, child: Child, **changes: Any) -> Child:
        """The child with these changes, from now on."""
        changed = _replace(child, **changes)
        self.children[child.spec.name] = changed
        self.touched = True
        return changed

    def enter(self, child: Child, state: State, **changes: Any) -> Child:
        """The same, in a state that begins now; a draining that goes on has begun before."""
        since = child.since if state == child.state == "draining" else self.now
        return self.put(child, state=state, since=since, **changes)

    def remove(self, child: Child) -> None:
        """Nobody knows it any more; its generations are not used again."""
        del self.children[child.spec.name]
        self.touched = True
        self.retired = {**self.retired, child.spec.name: child.generation}

    def post(self, event: ActorEvent) -> None:
        self.posted.append((event.name, event))

    def emit(self, effect: Effect) -> None:
        self.effects.append(effect)

    def record(self, kind: RecordKind, child: Child, detail: str = "", seconds: float | None = None) -> None:
        ms = None if seconds is None else seconds * 1000
        self.emit(Record(kind, child.spec.name, child.generation, child.pid, detail, ms))

    def result(self) -> tuple[Supervision, tuple[Effect, ...]]:
        """The new state (the old one itself where nothing has changed) and the effects in order."""
        if not self.touched:
            return self._before, tuple(self.effects)
        after = Supervision(
            limits=self.limits, children=self.children, phase=self.phase, retired=self.retired
        )
        return after, tuple(self.effects)
