"""A scripted OpenAI-compatible server on loopback: real HTTP, with every way an API can behave well or badly.

In a test: `async with ScriptedServer("429,well") as server: … server.url …`; the first request is served in the first
mode, the second in the second, all further ones in the last. As a process of its own, for other tests and benches:
`python tests/llm_server.py --port 8000 --mode well --delay 0.02` prints its URL when it listens; `GET /status` tells
what it has counted.

The answer is known before it is asked: to "count 5" it is "1 2 3 4 5", to anything else "You said: …". A message of
the assistant at the end is continued.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import web

Body = dict[str, Any]
MODELS = ["echo", "gpt-4o-mini", "gpt-4o"]
PING = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
CRASHED = b'data: {"error": {"code": 500, "message": "CUDA out of memory"}}\n\n'
_EVENTS = {"Content-Type": "text/event-stream"}


def answer_to(body: Body) -> str:
    """The whole answer to the conversation, a prefill included."""
    asked = next((m["content"] for m in reversed(body["messages"]) if m["role"] == "user"), "")
    count = re.fullmatch(r"\s*count (\d+)\s*", asked)
    return " ".join(map(str, range(1, int(count[1]) + 1))) if count else f"You said: {asked}"


def words_left(body: Body) -> list[str]:
    """The answer's words, each with the space before it, without what a prefill holds already."""
    answer = answer_to(body)
    last = body["messages"][-1]
    if last["role"] == "assistant":
        answer = answer.removeprefix(last["content"])
    return re.findall(r"\s*\S+", answer)


def whole(body: Body, **message: Any) -> bytes:
    """A whole reply."""
    words = words_left(body)
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": "".join(words), **message},
    }
    usage = {"prompt_tokens": 7, "completion_tokens": len(words), "total_tokens": 7 + len(words)}
    return json.dumps(
        {"object": "chat.completion", "model": body.get("model"), "choices": [choice], "usage": usage}
    ).encode()


def event(delta: Body, finish_reason: str | None = None) -> bytes:
    """One event of a stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


def end(body: Body) -> bytes:
    """The last events: why it ended, the usage if that was wanted, and the mark."""
    events = event({}, "stop")
    if (body.get("stream_options") or {}).get("include_usage"):
        usage = {"prompt_tokens": 7, "completion_tokens": len(words_left(body))}
        events += b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
    return events + DONE


class ScriptedServer:
    """Serves each request in its mode. `asked`, `cancelled`, `served` count; `bodies` holds what was asked.

    `delay`: seconds between two words, and before the first where the mode is "slow". `retry_after`: what "429" says.
    """

    def __init__(
        self, mode: str = "well", *, delay: float = 0.0, retry_after: str = "0", port: int = 0
    ) -> None:
        self.modes = [MODES[name] for name in mode.split(",")]
        self.delay, self.retry_after = delay, retry_after
        self.asked = self.cancelled = self.served = 0
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.connections: set[int] = set()
        self._port = port
        self._keep = True
        self._changed = asyncio.Event()
        application = web.Application(client_max_size=1 << 26)
        application.router.add_post("/v1/chat/completions", self._complete)
        application.router.add_get("/v1/models", self._models)
        application.router.add_get("/status", self._status)
        self._runner = web.AppRunner(
            application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=4096)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The base URL of the API."""
        return f"http://127.0.0.1:{self._port}/v1"

    def forget(self) -> None:
        """Keeps no bodies from here on: for benches."""
        self._keep = False
        self.bodies.clear()

    async def until(self, reached: Callable[[ScriptedServer], bool], within: float = 10.0) -> None:
        """Waits until the counts are so; fails after `within` seconds."""
        async with asyncio.timeout(within):
            while not reached(self):
                self._changed.clear()
                await self._changed.wait()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        mode = self.modes[min(self.asked, len(self.modes) - 1)]
        self.asked += 1
        if self._keep:
            self.bodies.append(body)
            self.headers.append(dict(request.headers))
            self.connections.add(id(request.transport))
        self._changed.set()
        try:
            response = await mode(self, request, body)
        except (asyncio.CancelledError, ConnectionError):
            self.cancelled += 1
            raise
        else:
            self.served += 1
            return response
        finally:
            self._changed.set()

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]}
        )

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response({"asked": self.asked, "cancelled": self.cancelled, "served": self.served})


Mode = Callable[[ScriptedServer, web.Request, Body], Awaitable[web.StreamResponse]]


def refuses(status: int, message: str, **more: Any) -> Mode:
    """A mode that answers an error as OpenAI words it. `{key}` and `{model}` stand for what was sent."""

    async def mode(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        words = message.format(key=key, model=body.get("model"))
        headers = {"Retry-After": server.retry_after} if status == 429 else None
        return web.json_response({"error": {"message": words, **more}}, status=status, headers=headers)

    return mode


def answers(status: int, text: str, kind: str = "text/html", **headers: str) -> Mode:
    """A mode that answers something else than JSON."""

    async def mode(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type=kind, headers=headers)

    return mode


def streams(*events: bytes) -> Mode:
    """A mode that sends exactly these events at once, and ends as HTTP has it."""

    async def mode(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
        return web.Response(body=b"".join(events), headers=_EVENTS)

    return mode


def keeps_alive(first: bytes, then: bytes) -> Mode:
    """A mode that sends `first`, and `then` again and again without end."""

    async def mode(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
        response = await _begin(request)
        await response.write(first)
        while True:
            await response.write(then)
            await asyncio.sleep(0.01)

    return mode


async def _begin(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers=_EVENTS)
    await response.prepare(request)
    await response.write(event({"role": "assistant", "content": ""}))
    return response


async def well(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
    """Word by word, `delay` apart."""
    if not body.get("stream"):
        await asyncio.sleep(server.delay)
        return web.Response(body=whole(body), content_type="application/json")
    response = await _begin(request)
    for word in words_left(body):
        await response.write(event({"content": word}))
        await asyncio.sleep(server.delay)
    await response.write(end(body))
    await asyncio.sleep(server.delay)  # the end of the body comes after the mark, as it often does
    return response


async def instant(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
    """Everything in one write."""
    if not body.get("stream"):
        return web.Response(body=whole(body), content_type="application/json")
    pieces = b"".join(event({"content": word}) for word in words_left(body))
    return web.Response(body=pieces + end(body), headers=_EVENTS)


async def slow(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
    """`delay` before the first word, then all at once."""
    await asyncio.sleep(server.delay)
    return await instant(server, request, body)


async def hang_up(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
    """The connection is gone, without the end of the body, or even headers."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
    """Half of the words, then the connection is gone."""
    response = await _begin(request)
    words = words_left(body)
    for word in words[: max(1, len(words) // 2)]:
        await response.write(event({"content": word}))
        await asyncio.sleep(server.delay)
    await hang_up(server, request, body)
    return response


async def cut_early(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
    """The connection is gone before the first word."""
    response = await _begin(request)
    await hang_up(server, request, body)
    return response


async def no_mark(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
    """A finish reason, and no [DONE]."""
    pieces = b"".join(event({"content": word}) for word in words_left(body))
    return web.Response(body=pieces + event({}, "stop"), headers=_EVENTS)


async def broken_json(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
    if body.get("stream"):
        return web.Response(body=b'data: {"choices": [\n\n', headers=_EVENTS)
    return web.Response(body=b'{"choices": [', content_type="application/json")


async def empty(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
    return web.Response(
        body=b"", headers=_EVENTS if body.get("stream") else {"Content-Type": "application/json"}
    )


async def silent(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
    """Never answers."""
    await asyncio.Event().wait()
    return web.Response()


async def declines(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
    """A refusal in place of the text."""
    words = "I cannot help with that."
    if body.get("stream"):
        return web.Response(body=event({"refusal": words}) + end(body), headers=_EVENTS)
    return web.Response(body=whole(body, content=None, refusal=words), content_type="application/json")


async def no_stream_options(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
    """An older server: it refuses what it does not know."""
    if "stream_options" in body:
        return await refuses(400, "stream_options: extra fields not permitted")(server, request, body)
    return await instant(server, request, body)


async def not_streaming(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
    """Answers whole, whatever was asked."""
    return web.Response(body=whole(body), content_type="application/json")


async def repeats(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
    """Whole, and a prefill is said once more."""
    return web.Response(body=whole(body, content=answer_to(body)), content_type="application/json")


async def error_late(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
    """One word, and after `delay` an error as an event."""
    response = await _begin(request)
    await response.write(event({"content": "You"}))
    await asyncio.sleep(server.delay)
    await response.write(CRASHED)
    return response


async def thinks(server: ScriptedServer, request: web.Request, body: Body) -> web.StreamResponse:
    """Reasons for five times `delay`, then answers."""
    response = await _begin(request)
    for _ in range(5):
        await response.write(event({"reasoning_content": "hm"}))
        await asyncio.sleep(server.delay)
    await response.write(b"".join(event({"content": word}) for word in words_left(body)) + end(body))
    return response


MODES: dict[str, Mode] = {
    "well": well,
    "instant": instant,
    "slow": slow,
    "429": refuses(429, "Rate limit reached", type="requests"),
    "no-credit": refuses(429, "You exceeded your current quota", code="insufficient_quota"),
    "500": refuses(500, "The server had an error"),
    "502": answers(502, "<html><h1>502 Bad Gateway</h1></html>"),
    "cut": cut,
    "cut-early": cut_early,
    "hang-up": hang_up,
    "unfinished": streams(event({"content": "You"})),
    "no-mark": no_mark,
    "comments": keeps_alive(PING, PING + event({"content": ""})),
    "stalls": keeps_alive(event({"content": "You"}), PING),
    "lingers": keeps_alive(event({"content": "You"}) + event({}, "stop") + DONE, PING),
    "error-inside": streams(event({"content": "You"}), CRASHED),
    "broken-json": broken_json,
    "html": answers(200, "<html>Please log in to the network</html>"),
    "empty": empty,
    "silent": silent,
    "401": refuses(401, "Incorrect API key provided: {key}", code="invalid_api_key"),
    "403": refuses(403, "Country not supported; key {key}", code="unsupported_country"),
    "404": refuses(404, "The model `{model}` does not exist", code="model_not_found"),
    "no-such-path": answers(404, '{"detail": "Not Found"}', "application/json"),
    "too-long": refuses(400, "Too many words", code="context_length_exceeded"),
    "too-long-llama": refuses(400, "Too many words", type="exceed_context_size_error", code=400),
    "declines": declines,
    "filtered": refuses(400, "The response was filtered", code="content_filter"),
    "bad-option": refuses(400, "temperature must be at most 2", type="invalid_request_error"),
    "no-stream-options": no_stream_options,
    "not-streaming": not_streaming,
    "repeats": repeats,
    "says-nothing": streams(event({}, "stop"), DONE),
    "error-late": error_late,
    "thinks": thinks,
    "redirects": answers(302, "", Location="https://example.com/login"),
}


async def _serve(port: int, mode: str, delay: float, retry_after: str) -> None:
    server = ScriptedServer(mode, delay=delay, retry_after=retry_after, port=port)
    server.forget()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with server:
        print(server.url, flush=True)
        await stopped.wait()


def main() -> None:
    arguments = argparse.ArgumentParser(description="A scripted OpenAI-compatible server on loopback.")
    arguments.add_argument("--port", type=int, default=0, help="0 takes a free one")
    arguments.add_argument(
        "--mode", default="well", help=f"one of {', '.join(MODES)}; or several: the n-th request's"
    )
    arguments.add_argument("--delay", type=float, default=0.0, help="seconds between two words")
    arguments.add_argument("--retry-after", default="0", help="what 429 says")
    given = arguments.parse_args()
    asyncio.run(_serve(given.port, given.mode, given.delay, given.retry_after))


if __name__ == "__main__":
    main()
