"""How an API behaves, whatever its shape: each mode answers one request, well or badly."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from tests.llm_server.shape import Body, Mode, Served, Shape, words_left

COMMENT = b": keep-alive\n\n"
EVENTS = {"Content-Type": "text/event-stream"}


def refuses(status: int, message: str, **more: Any) -> Mode:
    """A mode that answers an error as the API words it. `{key}` and `{model}` stand for what was sent."""

    async def mode(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
        words = message.format(key=server.shape.key(request.headers), model=body.get("model"))
        headers = {"Retry-After": server.retry_after} if status == 429 else None
        return web.json_response(server.shape.error(status, words, more), status=status, headers=headers)

    return mode


async def limited_in_body(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """429 that tells the time in its body only."""
    error = server.shape.error(429, "Slow down", {"retry_after": float(server.retry_after)})
    return web.json_response(error, status=429)


def answers(status: int, text: str, kind: str = "text/html", **headers: str) -> Mode:
    """A mode that answers something else than JSON."""

    async def mode(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type=kind, headers=headers)

    return mode


def streams(*events: bytes) -> Mode:
    """A mode that sends exactly these events at once, and ends as HTTP has it."""

    async def mode(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
        return web.Response(body=b"".join(events), headers=EVENTS)

    return mode


def keeps_alive(first: bytes, then: bytes) -> Mode:
    """A mode that sends `first`, and `then` again and again without end."""

    async def mode(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
        response = await begin(server, request, body)
        await response.write(first)
        while True:
            await response.write(then)
            await asyncio.sleep(0.01)

    return mode


async def lingers(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """One word and the mark, and no end of the reply."""
    shape = server.shape
    ended = shape.word("You") + shape.finish(body) + shape.mark
    return await keeps_alive(ended, COMMENT)(server, request, body)


async def begin(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """A stream that has begun, without a word so far."""
    response = web.StreamResponse(headers=EVENTS)
    await response.prepare(request)
    await response.write(server.shape.begin(body))
    return response


async def well(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """Word by word, `delay` apart."""
    shape = server.shape
    if not body.get("stream"):
        await asyncio.sleep(server.delay)
        return await not_streaming(server, request, body)
    response = await begin(server, request, body)
    for word in words_left(body):
        await response.write(shape.word(word))
        await asyncio.sleep(server.delay)
    await response.write(shape.finish(body) + shape.mark)
    await asyncio.sleep(server.delay)  # the end of the body comes after the mark, as it often does
    return response


async def instant(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """Everything in one write."""
    if not body.get("stream"):
        return await not_streaming(server, request, body)
    return web.Response(body=_until_the_mark(server.shape, body) + server.shape.mark, headers=EVENTS)


async def no_mark(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """A finish reason, and no mark."""
    return web.Response(body=_until_the_mark(server.shape, body), headers=EVENTS)


def _until_the_mark(shape: Shape, body: Body) -> bytes:
    return shape.begin(body) + b"".join(map(shape.word, words_left(body))) + shape.finish(body)


async def slow(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """`delay` before the first word, then all at once."""
    await asyncio.sleep(server.delay)
    return await instant(server, request, body)


async def hang_up(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """The connection is gone, without the end of the body, or even headers."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """Half of the words, then the connection is gone."""
    response = await begin(server, request, body)
    words = words_left(body)
    for word in words[: max(1, len(words) // 2)]:
        await response.write(server.shape.word(word))
        await asyncio.sleep(server.delay)
    await hang_up(server, request, body)
    return response


async def cut_early(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """The connection is gone before the first word."""
    response = await begin(server, request, body)
    await hang_up(server, request, body)
    return response


async def broken_json(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    if body.get("stream"):
        return web.Response(body=b'data: {"choices": [\n\n', headers=EVENTS)
    return web.Response(body=b'{"choices": [', content_type="application/json")


async def empty(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    return web.Response(
        body=b"", headers=EVENTS if body.get("stream") else {"Content-Type": "application/json"}
    )


async def silent(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """Never answers."""
    await asyncio.Event().wait()
    return web.Response()


async def not_streaming(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """Answers whole, whatever was asked."""
    return web.Response(body=server.shape.whole(body), content_type="application/json")


async def error_late(server: Served, request: web.Request, body: Body) -> web.StreamResponse:
    """One word, and after `delay` an error as an event."""
    response = await begin(server, request, body)
    await response.write(server.shape.word("You"))
    await asyncio.sleep(server.delay)
    await response.write(server.shape.crashed)
    return response


def of_any_shape(shape: Shape) -> dict[str, Mode]:
    """By name."""
    return {
        "well": well,
        "instant": instant,
        "slow": slow,
        "502": answers(502, "<html><h1>502 Bad Gateway</h1></html>"),
        "429-in-body": limited_in_body,
        "cut": cut,
        "cut-early": cut_early,
        "hang-up": hang_up,
        "unfinished": streams(shape.word("You")),
        "no-mark": no_mark,
        "comments": keeps_alive(COMMENT, COMMENT + shape.idle),
        "stalls": keeps_alive(shape.word("You"), COMMENT + shape.idle),
        "lingers": lingers,
        "error-inside": streams(shape.word("You"), shape.crashed),
        "error-late": error_late,
        "broken-json": broken_json,
        "html": answers(200, "<html>Please log in to the network</html>"),
        "empty": empty,
        "silent": silent,
        "no-such-path": answers(404, '{"detail": "Not Found"}', "application/json"),
        "not-streaming": not_streaming,
        "redirects": answers(302, "", Location="https://example.com/login"),
    }
