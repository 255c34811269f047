"""What a run may use. Agents that it calls draw from the same budget."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from fusiond.protocol.agents import FinishReason, Step

WARNED = 3
"""The same call for so many times is warned about; once more ends the run."""


class Budget:
    """Steps, tokens, and seconds of thinking and acting; 0 for no limit. One object for a run and all that it calls."""

    def __init__(self, *, max_steps: int, max_tokens: int = 0, max_seconds: float = 0.0) -> None:
        self.max_steps, self.max_tokens, self.max_seconds = max_steps, max_tokens, max_seconds
        self.steps = 0
        self.tokens = 0
        self.seconds = 0.0

    def __repr__(self) -> str:
        return f"Budget({self.steps}/{self.max_steps} steps, {self.tokens} tokens, {self.seconds:.1f} s)"

    def think(self, ms: float, input_tokens: int | None, output_tokens: int | None) -> None:
        """A model was asked."""
        self.seconds += ms / 1000
        self.tokens += (input_tokens or 0) + (output_tokens or 0)

    def spend(self, step: Step) -> None:
        """A step that was taken before."""
        self.steps += 1
        self.think(step.think_ms, step.input_tokens, step.output_tokens)

    def wait(self, ms: float) -> None:
        """Time that went into an action."""
        self.seconds += ms / 1000

    def exhausted(self) -> FinishReason | None:
        """Which limit has been reached."""
        if self.max_tokens and self.tokens >= self.max_tokens:
            return "token_limit"
        if self.max_seconds and self.seconds >= self.max_seconds:
            return "time_limit"
        return "step_limit" if self.steps >= self.max_steps else None

    @property
    def seconds_left(self) -> float | None:
        return max(0.05, self.max_seconds - self.seconds) if self.max_seconds else None


class Call(msgspec.Struct, frozen=True):
    """A call as such: the same whatever the order of its arguments."""

    target: str
    input: str


def call_of(target: str, given: Any) -> Call:
    return Call(target, given if isinstance(given, str) else json.dumps(given, sort_keys=True))
