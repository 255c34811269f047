"""The shape of the Messages API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tests.llm_server.modes import EVENTS, begin, of_any_shape, refuses
from tests.llm_server.shape import Body, Mode, Served, words_left

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


def event(type: str, **more: Any) -> bytes:
    """One event of a stream."""
    return f"event: {type}\ndata: {json.dumps({'type': type, **more})}\n\n".encode()


def delta(index: int = 0, **piece: Any) -> bytes:
    return event("content_block_delta", index=index, delta=piece)


def block(index: int = 0, **content: Any) -> bytes:
    return event("content_block_start", index=index, content_block=content)


def started(body: Body) -> bytes:
    return event("message_start", message=message(body, [], None, 1))


def message(body: Body, content: list[Body], stop_reason: str | None, tokens: int, **more: Any) -> Body:
    """The input is seven tokens: four new, two read from a cache, one written to it."""
    usage = {"input_tokens": 4, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 1}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body.get("model"),
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {**usage, "output_tokens": tokens},
        **more,
    }


def stopped(reason: str, tokens: int, **more: Any) -> bytes:
    """Why the message ended; the tokens are all of them so far."""
    said = {"stop_reason": reason, "stop_sequence": None, **more}
    return event("message_delta", delta=said, usage={"output_tokens": tokens})


class AnthropicShape:
    """As Anthropic has it; it objects to what Anthropic does not take."""

    base = ""
    completions = "/v1/messages"
    models = ["echo", "claude-haiku-4-5", "claude-sonnet-4-6"]  # noqa: RUF012 — never changed
    mark = event("message_stop")
    idle = event("ping")
    crashed = event("error", error={"type": "overloaded_error", "message": "Overloaded"})

    def __init__(self) -> None:
        self.modes: Mapping[str, Mode] = of_any_shape(self) | {
            "429": refuses(429, "This request would exceed your rate limit"),
            "500": refuses(500, "Internal server error"),
            "529": refuses(529, "Overloaded"),
            "no-credit": refuses(400, "Your credit balance is too low to access the Anthropic API"),
            "402": refuses(402, "There is an issue with your billing"),
            "401": refuses(401, "invalid x-api-key: {key}"),
            "403": refuses(403, "Your API key {key} may not use this resource"),
            "404": refuses(404, "model: {model}"),
            "too-long": refuses(400, "prompt is too long: 213462 tokens > 200000 maximum"),
            "too-long-with-answer": refuses(
                400, "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000"
            ),
            "too-large": refuses(413, "Request exceeds the maximum size"),
            "bad-option": refuses(400, "temperature: Input should be less than or equal to 1"),
            "declines": stops(
                "refusal", [], stop_details={"type": "refusal", "explanation": "It may do harm."}
            ),
            "declines-late": declines_late,
            "declines-silently": stops("refusal", []),
            "says-nothing": stops("end_turn", []),
            "out-of-tokens": stops("max_tokens", ["Once", " upon"]),
            "out-of-context": stops("model_context_window_exceeded", ["Once", " upon"]),
            "stop-sequence": stops("stop_sequence", ["Once", " upon"]),
            "overloaded-at-once": overloaded_at_once,
            "thinks": thinks,
            "unknown-events": unknown_events,
        }

    def objection(self, headers: Mapping[str, str], body: Body) -> str | None:
        if headers.get("anthropic-version") != "2023-06-01":
            return "anthropic-version: header is required"
        if not isinstance(body.get("max_tokens"), int):
            return "max_tokens: Field required"
        for number, said in enumerate(body["messages"]):
            if said["role"] not in ("user", "assistant"):
                return f'messages: Unexpected role "{said["role"]}"'
            if not said["content"].strip():
                return f"messages.{number}: text content blocks must contain non-whitespace text"
        last = body["messages"][-1]
        if last["role"] == "assistant" and last["content"] != last["content"].rstrip():
            return "messages: final assistant content cannot end with trailing whitespace"
        form = (body.get("output_config") or {}).get("format")
        if form and _open(form["schema"]):
            return "output_config.format.schema: 'additionalProperties' must be explicitly set to false"
        return next(
            (f"{key}: Extra inputs are not permitted" for key in body if key in ("stop", "prefix")), None
        )

    def key(self, headers: Mapping[str, str]) -> str:
        return headers.get("x-api-key", "")

    def error(self, status: int, message: str, more: Body) -> Body:
        return {
            "type": "error",
            "error": {"type": TYPES[status], "message": message, **more},
            "request_id": "req_1",
        }

    def whole(self, body: Body) -> bytes:
        words = words_left(body)
        return _whole(body, "end_turn", words)

    def begin(self, body: Body) -> bytes:
        return started(body) + block(type="text", text="") + event("ping")

    def word(self, text: str) -> bytes:
        return delta(type="text_delta", text=text)

    def finish(self, body: Body) -> bytes:
        return event("content_block_stop", index=0) + stopped("end_turn", len(words_left(body)))


def _whole(body: Body, reason: str, words: list[str], **more: Any) -> bytes:
    content: list[Body] = [{"type": "text", "text": "".join(words)}] if words else []
    return json.dumps(message(body, content, reason, len(words), **more)).encode()


def _open(schema: Any) -> bool:
    """Whether an object in it may have other properties than those it names."""
    if isinstance(schema, list):
        return any(map(_open, schema))
    if not isinstance(schema, dict):
        return False
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return True
    return any(_open(value) for key, value in schema.items() if key != "const")


def stops(reason: str, words: list[str], **more: Any) -> Mode:
    """A mode that says these words and ends for that reason."""

    async def mode(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
        if not body.get("stream"):
            return web.Response(body=_whole(body, reason, words, **more), content_type="application/json")
        said = started(body)
        if words:
            pieces = b"".join(map(ANTHROPIC.word, words))
            said += block(type="text", text="") + pieces + event("content_block_stop", index=0)
        return web.Response(body=said + stopped(reason, len(words), **more) + ANTHROPIC.mark, headers=EVENTS)

    return mode


async def declines_late(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """One word, and after `delay` a refusal."""
    response = await begin(server, request, body)
    await response.write(ANTHROPIC.word("You"))
    await asyncio.sleep(server.delay)
    await response.write(stopped("refusal", 1) + ANTHROPIC.mark)
    return response


async def overloaded_at_once(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """A stream that begins, and fails before its first word."""
    return web.Response(body=ANTHROPIC.begin(body) + ANTHROPIC.crashed, headers=EVENTS)


async def thinks(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """Reasons for five times `delay`, then answers."""
    response = web.StreamResponse(headers=EVENTS)
    await response.prepare(request)
    await response.write(started(body) + block(type="thinking", thinking="", signature=""))
    for _ in range(5):
        await response.write(delta(type="thinking_delta", thinking="hm"))
        await asyncio.sleep(server.delay)
    sealed = delta(type="signature_delta", signature="c2VhbA==") + event("content_block_stop", index=0)
    words = b"".join(delta(1, type="text_delta", text=word) for word in words_left(body))
    said = block(1, type="text", text="") + words + event("content_block_stop", index=1)
    end = stopped("end_turn", 5 + len(words_left(body)))
    await response.write(sealed + said + end + ANTHROPIC.mark)
    return response


async def unknown_events(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """What a newer API may send: other events, blocks and pieces of them."""
    new = event("weather", forecast=["rain"]) + delta(type="colour_delta", text="red")
    words = b"".join(map(ANTHROPIC.word, words_left(body)))
    return web.Response(
        body=ANTHROPIC.begin(body) + new + words + new + ANTHROPIC.finish(body) + ANTHROPIC.mark,
        headers=EVENTS,
    )


ANTHROPIC = AnthropicShape()
