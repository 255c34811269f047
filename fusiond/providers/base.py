"""What a provider is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from fusiond.protocol.chat import Completion, CompletionChunk, CompletionRequest, Relayed

Emit = Callable[[CompletionChunk], None]
"""Takes the next piece of a streamed answer."""

Loading = Callable[[], AbstractAsyncContextManager[None]]
"""Surrounds a load, which blocks the loop for a second or so: it holds the interpreter lock."""


class Provider(Protocol):
    """Asks models of one API for completions; many at once."""

    async def complete(self, request: CompletionRequest, emit: Emit) -> Completion:
        """The answer; `request.model` is the name inside this provider, without `provider/`.

        With `request.stream`, pieces go to `emit` as they arrive; without, `emit` is never called. Raises classes of
        `fusiond.errors` only. Once a piece has been emitted, a failure that asking again may mend is `Interrupted`.
        Cancelling the task closes the request at the API, before the first token too.
        """

    async def relay(self, url: str, model: str, body: bytes) -> Relayed:
        """The whole reply to a body made for OpenAI's API, which names `model`. Asked once, whatever happens."""

    async def aclose(self) -> None:
        """Closes connections and lets go of what is held. No request may be under way."""
