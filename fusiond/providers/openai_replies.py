"""Replies of Chat Completions: what they mean for the answer, whole or streamed."""

from __future__ import annotations

from typing import Any

import msgspec

from fusiond.protocol.chat import Usage
from fusiond.providers.answer import Answer
from fusiond.providers.refusals import Api, declined, inside, no_answer
from fusiond.providers.replies import Piece, decoded, tokens


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


_decoder = msgspec.json.Decoder(_Reply)


class OpenAIReading:
    """A `Reading` of one reply of `api`, asked for `model`, into `answer`."""

    def __init__(self, api: Api, model: str, answer: Answer) -> None:
        self._api = api
        self._model = model
        self._answer = answer

    def whole(self, body: bytes) -> None:
        choice = self._choice(decoded(self._api, _decoder, body))
        if choice is None or choice.message is None:
            raise no_answer(self._api, "JSON without a message")
        if choice.message.refusal:
            raise declined(self._api, choice.message.refusal)
        if text := _text(choice.message.content):
            self._answer.whole(text)

    def event(self, data: bytes) -> Piece:
        if data == b"[DONE]":
            return Piece(ended=True)
        choice = self._choice(decoded(self._api, _decoder, data))
        if choice is None or choice.delta is None:
            return Piece()
        if choice.delta.refusal:
            raise declined(self._api, choice.delta.refusal)
        text = _text(choice.delta.content)
        return Piece(text, alive=bool(text or choice.delta.reasoning_content or choice.delta.reasoning))

    def _choice(self, reply: _Reply) -> _Choice | None:
        """The one choice asked for; notes how it ended and what it cost."""
        if reply.error:
            raise inside(self._api, self._model, reply.error, started=self._answer.started)
        if reply.usage is not None:
            self._answer.usage = Usage(
                tokens(reply.usage.prompt_tokens), tokens(reply.usage.completion_tokens)
            )
        choice = next((choice for choice in reply.choices or () if choice.index == 0), None)
        if choice is not None and choice.finish_reason:
            self._answer.finish_reason = choice.finish_reason
        return choice


def _text(content: Any) -> str:
    """A message's text; some APIs send a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(text for text in texts if isinstance(text, str))
    return ""
