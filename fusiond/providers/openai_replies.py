"""Replies of Chat Completions: what they mean for the answer, whole or streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import msgspec

from fusiond.errors import BadReply, ContentRefused, FusionError
from fusiond.protocol.chat import Usage
from fusiond.providers.answer import Answer, Patience
from fusiond.providers.client import pieces
from fusiond.providers.refusals import FOREIGN, Api, cut_off, no_answer, of, refused
from fusiond.providers.sse import Parser

LARGEST_REPLY = 64 << 20
"""Bytes of a whole reply; more is no completion."""

_AFTER_THE_END_S = 0.05
_OUR_FAULT = {
    "context_length_exceeded",
    "exceed_context_size_error",
    "invalid_request_error",
    "model_not_found",
}


class _Counted(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Said(msgspec.Struct):
    """A message, or the next piece of one. Reasoning is not passed on, but it is a sign of life."""

    content: Any = None
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None


class _Reply(msgspec.Struct):
    """A whole reply, or one event of a stream."""

    choices: list[_Choice] | None = None
    usage: _Counted | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Reply).decode


class Reading:
    """Reads one reply of `api`, asked for `model`, into `answer`. Raises what the reply says is wrong, typed."""

    def __init__(self, api: Api, model: str, answer: Answer) -> None:
        self._api = api
        self._model = model
        self._answer = answer

    def whole(self, body: bytes) -> None:
        """Takes a reply that came in one piece."""
        choice = self._choice(self._decoded(body))
        if choice is None or choice.message is None:
            raise no_answer(self._api, "JSON without a message")
        if choice.message.refusal:
            raise self._declined(choice.message.refusal)
        if text := _text(choice.message.content):
            self._answer.whole(text)
        self._refuse_if_filtered()

    async def stream(self, response: httpx.Response, patience: Patience) -> None:
        """Takes a stream of events to its end; what arrives together is passed on as one piece."""
        parser, silent, ended = Parser(), True, False
        received = pieces(response)
        async for data in received:
            events = [event.data for event in parser.feed(data)]
            if events:
                silent = False
                ended = self._take(events, patience)
            if ended:
                break
        if ended:
            await _finish(received)
        elif silent:
            raise no_answer(self._api, "an empty stream")
        elif self._answer.finish_reason is None:
            raise cut_off(self._api, started=self._answer.started)
        self._refuse_if_filtered()

    def _take(self, events: list[bytes], patience: Patience) -> bool:
        """Takes events that arrived together; true if the last of the stream was among them."""
        piece, alive, ended = "", False, False
        for data in events:
            if data == b"[DONE]":
                ended = True
                break
            choice = self._choice(self._decoded(data))
            if choice is None or choice.delta is None:
                continue
            if choice.delta.refusal:
                raise self._declined(choice.delta.refusal)
            text = _text(choice.delta.content)
            piece += text
            alive = alive or bool(text or choice.delta.reasoning_content or choice.delta.reasoning)
        if alive:
            patience.token()
        if piece:
            self._answer.grow(piece)
        return ended

    def _choice(self, reply: _Reply) -> _Choice | None:
        """The one choice asked for; notes how it ended and what it cost."""
        if reply.error:
            raise self._error(reply.error)
        if reply.usage is not None:
            self._answer.usage = Usage(reply.usage.prompt_tokens, reply.usage.completion_tokens)
        choice = next((choice for choice in reply.choices or () if choice.index == 0), None)
        if choice is not None and choice.finish_reason:
            self._answer.finish_reason = choice.finish_reason
        return choice

    def _decoded(self, data: bytes) -> _Reply:
        try:
            return _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise no_answer(self._api, "broken JSON" if data else "nothing") from None

    def _error(self, said: Any) -> FusionError:
        """An error inside a reply that began as a good one: in a stream, or from a gateway."""
        refusal = of({"error": said})
        fallback = 400 if refusal.codes & _OUR_FAULT else 502
        status = next(
            (int(code) for code in refusal.codes if code.isdigit() and 400 <= int(code) < 600), fallback
        )
        if self._answer.started and status >= 429:
            return cut_off(self._api, started=True)
        return refused(self._api, self._model, status, {}, refusal)

    def _declined(self, words: str) -> ContentRefused:
        return ContentRefused(f"{self._api.name} declines to answer this: {' '.join(words.split())}")

    def _refuse_if_filtered(self) -> None:
        if self._answer.finish_reason == "content_filter" and self._answer.empty:
            raise ContentRefused(f"{self._api.name} declines to answer this")


async def body_of(response: httpx.Response) -> bytes:
    """The whole body. Raises BadReply on one without measure."""
    received = bytearray()
    async for piece in pieces(response):
        received += piece
        if len(received) > LARGEST_REPLY:
            raise BadReply(f"the provider's reply is larger than {LARGEST_REPLY >> 20} MB")
    return bytes(received)


async def _finish(received: AsyncIterator[bytes]) -> None:
    """Reads the body's end, which has mostly arrived with the last event: the connection can then be used again."""
    with suppress(TimeoutError, *FOREIGN):
        async with asyncio.timeout(_AFTER_THE_END_S):
            async for _ in received:
                pass


def _text(content: Any) -> str:
    """A message's text; some APIs send a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(text for text in texts if isinstance(text, str))
    return ""
