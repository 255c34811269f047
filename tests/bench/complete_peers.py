"""What there is below Fusion: its provider without the tree, and the server's own ceiling."""

from __future__ import annotations

import asyncio
from typing import cast
from urllib.parse import urlsplit

import msgspec

from fusiond.protocol.chat import CompletionChunk, CompletionRequest, Message
from fusiond.providers.openai import OpenAI
from fusiond.providers.settings import ProviderConfig
from fusiond.transport.loops import DirectLoop
from tests.bench.complete import IN_FLIGHT, PROMPT, many
from tests.bench.instant_server import TEXT


def _ignore(_: CompletionChunk) -> None:
    """Whole replies have no chunks."""


class ProviderCompletions:
    """Fusion's provider, called in this process."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner(loop_factory=DirectLoop)
        self._request = CompletionRequest(messages=[Message("user", PROMPT)], model="echo", stream=False)
        self._runner.run(self._open(url))

    async def _open(self, url: str) -> None:
        self._provider = OpenAI("instant", ProviderConfig(base_url=url))

    def pipelined(self, count: int) -> float:
        return self._runner.run(many(count, self._ask))

    async def _ask(self) -> None:
        assert (await self._provider.complete(self._request, _ignore)).text == TEXT

    def close(self) -> None:
        self._runner.run(self._provider.aclose())
        self._runner.close()


class FloorCompletions:
    """Fixed requests on `IN_FLIGHT` connections; of a reply only the length is looked at."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner(loop_factory=DirectLoop)
        self._runner.run(self._open(url))

    async def _open(self, url: str) -> None:
        address = urlsplit(url)
        body = msgspec.json.encode({"model": "echo", "messages": [{"role": "user", "content": PROMPT}]})
        request = (
            f"POST {address.path}/chat/completions HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        loop = asyncio.get_running_loop()
        host, port = address.netloc.split(":")
        self._connections = [
            (await loop.create_connection(lambda: _Asking(request), host, int(port)))[1]
            for _ in range(IN_FLIGHT)
        ]

    def pipelined(self, count: int) -> float:
        return self._runner.run(self._pipelined(count))

    async def _pipelined(self, count: int) -> float:
        free = list(self._connections)

        async def ask() -> None:
            connection = free.pop()
            await connection.ask()
            free.append(connection)

        return await many(count, ask)

    def close(self) -> None:
        for connection in self._connections:
            connection.transport.abort()
        self._runner.close()


class _Asking(asyncio.Protocol):
    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = b""
        self._length = 0  # of a whole reply: all are alike

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self) -> asyncio.Future[None]:
        self._answered = asyncio.get_running_loop().create_future()
        self.transport.write(self._request)
        return self._answered

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._length:
            head, _, _ = self._received.partition(b"\r\n\r\n")
            self._length = len(head) + 4 + int(head.rpartition(b"Content-Length: ")[2].split(b"\r\n")[0])
        if len(self._received) >= self._length:
            self._received = b""
            self._answered.set_result(None)
