"""What the APIs of LLMs differ in, and what they have in common: the answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from aiohttp import web

Body = dict[str, Any]


class Served(Protocol):
    """The server as its modes see it."""

    shape: Shape
    delay: float
    retry_after: str


Mode = Callable[[Served, web.Request, Body], Awaitable[web.StreamResponse]]
"""Answers one request."""


class Shape(Protocol):
    """How one API words what every API says."""

    base: str
    """The path of its base URL; the paths below are whole."""
    completions: str
    models: list[str]
    modes: Mapping[str, Mode]
    mark: bytes
    """The event that ends a stream."""
    idle: bytes
    """Events that say nothing new."""
    crashed: bytes
    """The event of a server that fails in mid-stream."""

    def objection(self, headers: Mapping[str, str], body: Body) -> str | None:
        """Why the API would refuse the request as badly formed."""

    def key(self, headers: Mapping[str, str]) -> str:
        """The key that was sent."""

    def error(self, status: int, message: str, more: Body) -> Body:
        """The body of a refusal."""

    def whole(self, body: Body) -> bytes:
        """A whole reply."""

    def begin(self, body: Body) -> bytes:
        """The events before the first word."""

    def word(self, text: str) -> bytes:
        """The event of a word."""

    def finish(self, body: Body) -> bytes:
        """The events after the last word, without the mark."""


def answer_to(body: Body) -> str:
    """The whole answer to the conversation, a prefill included."""
    asked = next((m["content"] for m in reversed(body["messages"]) if m["role"] == "user"), "")
    if count := re.fullmatch(r"\s*count (\d+)\s*", asked):
        return " ".join(map(str, range(1, int(count[1]) + 1)))
    return asked.removeprefix("say ") if asked.startswith("say ") else f"You said: {asked}"


def words_left(body: Body) -> list[str]:
    """The answer's words, each with the space before it, without what a prefill holds already."""
    answer = answer_to(body)
    last = body["messages"][-1]
    if last["role"] == "assistant":
        answer = answer.removeprefix(last["content"])
    return re.findall(r"\s*\S+", answer)
