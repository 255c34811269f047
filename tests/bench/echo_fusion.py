"""Client → router → actor → client, through a running daemon; the client on the loop of Fusion's own processes."""

from __future__ import annotations

import asyncio
import time

from fusiond.transport.loops import DirectLoop
from fusiond.transport.requester import Requester
from tests.bench.echo import BODY, WINDOW


class FusionEcho:
    def __init__(self, endpoint: str) -> None:
        self._runner = asyncio.Runner(loop_factory=DirectLoop)
        self._requester = self._runner.run(self._open(endpoint))

    async def _open(self, endpoint: str) -> Requester:
        requester = Requester(endpoint)
        assert await requester.request("agent", "ping", BODY, timeout=30) == BODY
        return requester

    def one_at_a_time(self, count: int) -> list[float]:
        return self._runner.run(self._one_at_a_time(count))

    async def _one_at_a_time(self, count: int) -> list[float]:
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            await self._requester.request("agent", "ping", BODY)
            taken.append(time.perf_counter() - began)
        return taken

    def pipelined(self, count: int) -> float:
        return self._runner.run(self._pipelined(count))

    async def _pipelined(self, count: int) -> float:
        left = count

        async def ask() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await self._requester.request("agent", "ping", BODY)

        began = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(WINDOW)))
        return time.perf_counter() - began

    def close(self) -> None:
        self._runner.run(self._requester.close())
        self._runner.close()
