"""Replies of the Messages API: what they mean for the answer, whole or streamed."""

from __future__ import annotations

from typing import Any

import msgspec

from fusiond.protocol.chat import Usage
from fusiond.providers.answer import Answer
from fusiond.providers.refusals import Api, declined, inside, no_answer
from fusiond.providers.replies import Piece, decoded, tokens

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}
"""Other stop reasons are passed on as they are."""


class _Counted(msgspec.Struct):
    """In a stream these are totals so far; what is not named has not changed."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None


class _Block(msgspec.Struct):
    """A block of the content, or the next piece of one. Thinking and tools are not passed on."""

    type: str = ""
    text: str = ""


class _Details(msgspec.Struct):
    explanation: str | None = None


class _Message(msgspec.Struct):
    """A whole reply, or the message that a stream begins with."""

    content: list[_Block] | None = None
    stop_reason: str | None = None
    stop_details: _Details | None = None
    usage: _Counted | None = None
    error: Any = None


class _Delta(_Block):
    """A piece of a block; at the end of a stream why the message ended."""

    stop_reason: str | None = None
    stop_details: _Details | None = None


class _Event(msgspec.Struct):
    """One event of a stream."""

    type: str = ""
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Counted | None = None
    error: Any = None


_message = msgspec.json.Decoder(_Message)
_event = msgspec.json.Decoder(_Event)


class AnthropicReading:
    """A `Reading` of one reply of `api`, asked for `model`, into `answer`."""

    def __init__(self, api: Api, model: str, answer: Answer) -> None:
        self._api = api
        self._model = model
        self._answer = answer
        self._counted = _Counted()

    def whole(self, body: bytes) -> None:
        message = decoded(self._api, _message, body)
        if message.error:
            raise inside(self._api, self._model, message.error, started=False)
        if message.content is None:
            raise no_answer(self._api, "JSON without a message")
        self._count(message.usage)
        self._stopped(message.stop_reason, message.stop_details)
        if text := "".join(_text(block) for block in message.content):
            self._answer.whole(text)

    def event(self, data: bytes) -> Piece:
        """Only pieces of a block are signs of life: pings come while the model stands still, and the first piece of a
        block long after its start where the thinking is not shown.
        """
        event = decoded(self._api, _event, data)
        if event.error:
            raise inside(self._api, self._model, event.error, started=self._answer.started)
        if event.message is not None:
            self._count(event.message.usage)
        self._count(event.usage)
        if event.delta is not None:
            self._stopped(event.delta.stop_reason, event.delta.stop_details)
        block = event.delta or event.content_block
        text = _text(block) if block is not None else ""
        alive = event.type == "content_block_delta"
        return Piece(text, alive=alive, ended=event.type == "message_stop")

    def _stopped(self, reason: str | None, details: _Details | None) -> None:
        if reason == "refusal":
            raise declined(self._api, (details and details.explanation) or "")
        if reason:
            self._answer.finish_reason = _FINISH_REASONS.get(reason, reason)

    def _count(self, usage: _Counted | None) -> None:
        """Tokens read from a cache, or written to it, were input too."""
        if usage is None:
            return
        told = {name: value for name, value in msgspec.structs.asdict(usage).items() if value is not None}
        counted = self._counted = msgspec.structs.replace(self._counted, **told)
        inputs = (counted.input_tokens, counted.cache_creation_input_tokens, counted.cache_read_input_tokens)
        known = [tokens for tokens in inputs if tokens is not None]
        self._answer.usage = Usage(tokens(sum(known) if known else None), tokens(counted.output_tokens))


def _text(block: _Block) -> str:
    return block.text if block.type in ("text", "text_delta") else ""
