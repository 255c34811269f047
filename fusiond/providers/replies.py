"""Replies of an API over HTTP, whole or streamed; what their JSON means, each kind of API reads for itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import NamedTuple, Protocol, TypeVar

import httpx
import msgspec

from fusiond.errors import BadReply
from fusiond.providers.answer import Answer, Patience
from fusiond.providers.client import pieces
from fusiond.providers.refusals import FOREIGN, Api, cut_off, no_answer
from fusiond.providers.sse import Parser

LARGEST_REPLY = 64 << 20
"""Bytes of a whole reply; more is no completion."""

_AFTER_THE_END_S = 0.05

T = TypeVar("T")


class Piece(NamedTuple):
    """What one event of a stream brings. `alive`: the model is at work; `ended`: it was the stream's last."""

    text: str = ""
    alive: bool = False
    ended: bool = False


class Reading(Protocol):
    """Reads one reply into an answer: its text when it is whole, its finish reason and usage always.

    Raises what the reply says is wrong, typed.
    """

    def whole(self, body: bytes) -> None:
        """Takes a reply that came in one piece."""

    def event(self, data: bytes) -> Piece:
        """Takes the data of one event of a stream."""


async def read_stream(
    api: Api, response: httpx.Response, reading: Reading, answer: Answer, patience: Patience
) -> None:
    """Takes a stream of events to its end; what arrives together is passed on as one piece."""
    parser, silent, ended = Parser(), True, False
    received = pieces(response)
    async for data in received:
        text, alive = "", False
        for event in parser.feed(data):
            silent = False
            piece = reading.event(event.data)
            text += piece.text
            alive = alive or piece.alive
            if piece.ended:
                ended = True
                break
        if alive:
            patience.token()
        if text:
            answer.grow(text)
        if ended:
            break
    if ended:
        await _finish(received)
    elif silent:
        raise no_answer(api, "an empty stream")
    elif answer.finish_reason is None:
        raise cut_off(api, started=answer.started)


async def body_of(response: httpx.Response) -> bytes:
    """The whole body. Raises BadReply on one without measure."""
    received = bytearray()
    async for piece in pieces(response):
        received += piece
        if len(received) > LARGEST_REPLY:
            raise BadReply(f"the provider's reply is larger than {LARGEST_REPLY >> 20} MB")
    return bytes(received)


def tokens(count: int | None) -> int | None:
    """A number of tokens, None for what cannot be one."""
    return count if count is not None and 0 <= count < 1 << 53 else None


def decoded(api: Api, decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """What a reply, or an event of it, holds. Raises BadReply if it is not what was expected."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise no_answer(api, "broken JSON" if data else "nothing") from None


async def _finish(received: AsyncIterator[bytes]) -> None:
    """Reads the body's end, which has mostly arrived with the last event: the connection can then be used again."""
    with suppress(TimeoutError, *FOREIGN):
        async with asyncio.timeout(_AFTER_THE_END_S):
            async for _ in received:
                pass
