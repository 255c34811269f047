"""The shape of Chat Completions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tests.llm_server.modes import EVENTS, begin, instant, of_any_shape, refuses, streams
from tests.llm_server.shape import Body, Mode, Served, answer_to, words_left


def event(delta: Body, finish_reason: str | None = None) -> bytes:
    """One event of a stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _data({"object": "chat.completion.chunk", "choices": [choice]})


def _data(document: Body) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


class OpenAIShape:
    """As OpenAI and everything compatible has it."""

    base = "/v1"
    completions = "/v1/chat/completions"
    models = ["echo", "gpt-4o-mini", "gpt-4o"]  # noqa: RUF012 — never changed
    mark = b"data: [DONE]\n\n"
    idle = event({"content": ""})
    crashed = _data({"error": {"code": 500, "message": "CUDA out of memory"}})

    def __init__(self) -> None:
        self.modes: Mapping[str, Mode] = of_any_shape(self) | {
            "429": refuses(429, "Rate limit reached", type="requests"),
            "no-credit": refuses(429, "You exceeded your current quota", code="insufficient_quota"),
            "500": refuses(500, "The server had an error"),
            "401": refuses(401, "Incorrect API key provided: {key}", code="invalid_api_key"),
            "403": refuses(403, "Country not supported; key {key}", code="unsupported_country"),
            "404": refuses(404, "The model `{model}` does not exist", code="model_not_found"),
            "too-long": refuses(400, "Too many words", code="context_length_exceeded"),
            "too-long-llama": refuses(400, "Too many words", type="exceed_context_size_error", code=400),
            "declines": declines,
            "filtered-away": filtered_away,
            "filtered": refuses(400, "The response was filtered", code="content_filter"),
            "bad-option": refuses(400, "temperature must be at most 2", type="invalid_request_error"),
            "no-stream-options": no_stream_options,
            "repeats": repeats,
            "thinks": thinks,
            "says-nothing": streams(event({}, "stop"), self.mark),
        }

    def objection(self, headers: Mapping[str, str], body: Body) -> str | None:
        return None

    def key(self, headers: Mapping[str, str]) -> str:
        return headers.get("Authorization", "").removeprefix("Bearer ")

    def error(self, status: int, message: str, more: Body) -> Body:
        return {"error": {"message": message, **more}}

    def whole(self, body: Body, **message: Any) -> bytes:
        words = words_left(body)
        said = {"role": "assistant", "content": "".join(words), **message}
        choice = {"index": 0, "finish_reason": "stop", "message": said}
        usage = {"prompt_tokens": 7, "completion_tokens": len(words), "total_tokens": 7 + len(words)}
        return json.dumps(
            {"object": "chat.completion", "model": body.get("model"), "choices": [choice], "usage": usage}
        ).encode()

    def begin(self, body: Body) -> bytes:
        return event({"role": "assistant", "content": ""})

    def word(self, text: str) -> bytes:
        return event({"content": text})

    def finish(self, body: Body) -> bytes:
        """Why it ended, and the usage if that was wanted."""
        events = event({}, "stop")
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 7, "completion_tokens": len(words_left(body))}
            events += _data({"choices": [], "usage": usage})
        return events


async def declines(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """A refusal in place of the text."""
    words = "I cannot help with that."
    if body.get("stream"):
        return web.Response(
            body=event({"refusal": words}) + OPENAI.finish(body) + OPENAI.mark, headers=EVENTS
        )
    return web.Response(body=OPENAI.whole(body, content=None, refusal=words), content_type="application/json")


async def filtered_away(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """Nothing is left of the text."""
    if body.get("stream"):
        return web.Response(body=event({}, "content_filter") + OPENAI.mark, headers=EVENTS)
    choice = {"index": 0, "finish_reason": "content_filter", "message": {"content": None}}
    return web.json_response({"choices": [choice]})


async def no_stream_options(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """An older server: it refuses what it does not know."""
    if "stream_options" in body:
        return await refuses(400, "stream_options: extra fields not permitted")(server, request, body)
    return await instant(server, request, body)


async def repeats(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """Whole, and a prefill is said once more."""
    return web.Response(body=OPENAI.whole(body, content=answer_to(body)), content_type="application/json")


async def thinks(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """Reasons for five times `delay`, then answers."""
    response = await begin(server, request, body)
    for _ in range(5):
        await response.write(event({"reasoning_content": "hm"}))
        await asyncio.sleep(server.delay)
    await response.write(b"".join(map(OPENAI.word, words_left(body))) + OPENAI.finish(body) + OPENAI.mark)
    return response


OPENAI = OpenAIShape()
