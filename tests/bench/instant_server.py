"""An OpenAI-shaped server as quick as plain Python allows, so that it is not what is measured; and one that paces.

`Server` is the bench's end; `python -m tests.bench.instant_server TOKENS PER_SECOND DELAY` is the process, which prints
its base URL when it listens. Of a request it reads the length, and whether a stream is wanted; the answer is one write.
With TOKENS a stream is paced instead, as several requests of different ages would be: see `Paced`. With DELAY a whole
answer takes so many seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

from fusiond.runtime import linux
from tests.bench.tree import clean_environment

TEXT = "It is as you say."

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": ?true')
_USAGE = {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}
_NAMED = {"id": "chatcmpl-1", "created": 1, "model": "echo"}


class Server:
    """The server's process, for as long as a `with` block lasts. `tokens`, `per_second`: the pace of a stream.

    `delay`: seconds until a whole answer. `module`: the program that serves.
    """

    module = "tests.bench.instant_server"

    def __init__(self, *, tokens: int = 0, per_second: float = 0, delay: float = 0) -> None:
        us = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.module, str(tokens), str(per_second), str(delay)],
            env=clean_environment(),
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: linux.die_with(us),
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"the server has ended with {self._process.wait()}")

    @property
    def config(self) -> str:
        """A `config.toml` whose default model is here."""
        return f'model = "instant/echo"\n[providers.instant]\nkind = "openai"\nbase_url = "{self.url}"\n'

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def _event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    body = {"object": "chat.completion.chunk", **_NAMED, "choices": choices, **more}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _piece(text: str) -> bytes:
    return _event([{"index": 0, "delta": {"content": text}, "finish_reason": None}])


def _chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(message: dict[str, Any], finish_reason: str = "stop") -> bytes:
    """A whole reply, as HTTP has it."""
    choices = [{"index": 0, "message": message, "finish_reason": finish_reason}]
    body = json.dumps({"object": "chat.completion", **_NAMED, "choices": choices, "usage": _USAGE}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_END = (
    _event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    + _event([], usage=_USAGE)
    + b"data: [DONE]\n\n"
)
_WHOLE = whole({"role": "assistant", "content": TEXT})
_STREAMED = _HEAD + _chunk(_piece(TEXT) + _END) + _chunk(b"")


class Paced:
    """One paced stream: token after token, each a line of its number and the monotonic nanoseconds of its writing.

    The first comes after a random part of the pause between two, so that streams asked for together are not in step.
    The last line is the CRC-32 of the text before it: whoever has the text knows whether it is exact.
    """

    def __init__(self, transport: asyncio.Transport, tokens: int, per_second: float) -> None:
        self._transport = transport
        self._tokens = tokens
        self._pause = 1 / per_second
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time() + random.uniform(0, self._pause)
        self._number = 0
        self._sum = 0
        transport.write(_HEAD)
        self._next()

    def _next(self) -> None:
        self._loop.call_at(self._began + self._number * self._pause, self._write)

    def _write(self) -> None:
        if self._transport.is_closing():
            return
        text = f"{self._number} {time.monotonic_ns()}\n"
        self._sum = zlib.crc32(text.encode(), self._sum)
        self._number += 1
        if self._number < self._tokens:
            self._transport.write(_chunk(_piece(text)))
            self._next()
        else:
            self._transport.write(_chunk(_piece(f"{text}{self._sum}\n") + _END) + _chunk(b""))


class Connection(asyncio.Protocol):
    """Takes requests apart; what is answered is a subclass's to say."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (body := self._next()) is not None:
            self.answer(body)

    def answer(self, body: bytes) -> None:
        """Answers one request."""
        raise NotImplementedError

    def _next(self) -> bytes | None:
        """The body of the next request that has arrived whole."""
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return None
        length = _LENGTH.search(self._received, 0, head)
        end = head + 4 + (int(length[1]) if length else 0)
        if len(self._received) < end:
            return None
        body, self._received = self._received[head + 4 : end], self._received[end:]
        return body


class _Instant(Connection):
    def __init__(self, tokens: int, per_second: float, delay: float) -> None:
        super().__init__()
        self._tokens, self._per_second, self._delay = tokens, per_second, delay

    def answer(self, body: bytes) -> None:
        if not _STREAM.search(body) and self._delay:
            asyncio.get_running_loop().call_later(self._delay, self.transport.write, _WHOLE)
        elif not _STREAM.search(body):
            self.transport.write(_WHOLE)
        elif self._tokens:
            Paced(self.transport, self._tokens, self._per_second)
        else:
            self.transport.write(_STREAMED)


async def serve(connection: Callable[[], Connection]) -> None:
    """Listens on a port of its own, and prints the URL."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(connection, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    tokens, per_second, delay = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    asyncio.run(serve(lambda: _Instant(tokens, per_second, delay)))
