"""The server: serves each request in its mode, and counts."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from aiohttp import web

from tests.llm_server.modes import refuses
from tests.llm_server.openai import OPENAI
from tests.llm_server.shape import Body, Shape


class ScriptedServer:
    """Serves each request in its mode. `asked`, `cancelled`, `served` count; `bodies` holds what was asked.

    `delay`: seconds between two words, and before the first where the mode is "slow". `retry_after`: what "429" says.
    """

    def __init__(
        self,
        mode: str = "well",
        *,
        shape: Shape = OPENAI,
        delay: float = 0.0,
        retry_after: str = "0",
        port: int = 0,
    ) -> None:
        self.shape = shape
        self.modes = [shape.modes[name] for name in mode.split(",")]
        self.delay, self.retry_after = delay, retry_after
        self.asked = self.cancelled = self.served = 0
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.connections: set[int] = set()
        self._port = port
        self._keep = True
        self._changed = asyncio.Event()
        application = web.Application(client_max_size=1 << 26)
        application.router.add_post(shape.completions, self._complete)
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
        return f"http://127.0.0.1:{self._port}{self.shape.base}"

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
        if objection := self.shape.objection(request.headers, body):
            mode = refuses(400, objection)
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
            {"object": "list", "data": [{"id": name, "object": "model"} for name in self.shape.models]}
        )

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response({"asked": self.asked, "cancelled": self.cancelled, "served": self.served})


@contextmanager
def serving(mode: str, shape: Shape = OPENAI) -> Iterator[ScriptedServer]:
    """A provider, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = ScriptedServer(mode, shape=shape)
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
        yield server
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
