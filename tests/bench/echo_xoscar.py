"""A call of an xoscar actor in another process; there is no broker in between."""

from __future__ import annotations

import asyncio
import importlib
import time
from typing import Any

from tests.bench.echo import BODY, WINDOW

xoscar: Any = importlib.import_module("xoscar")  # untyped, and not everywhere installed


class Echoing(xoscar.Actor):  # type: ignore[misc]
    def ping(self, body: bytes) -> bytes:
        return body


class XoscarEcho:
    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._runner.run(self._open())

    async def _open(self) -> None:
        self._pool = await xoscar.create_actor_pool("127.0.0.1", n_process=1, subprocess_start_method="spawn")
        self._actor: Any = await xoscar.create_actor(
            Echoing,
            address=self._pool.external_address,
            allocate_strategy=xoscar.allocate_strategy.ProcessIndex(1),
        )
        assert await self._actor.ping(BODY) == BODY

    def one_at_a_time(self, count: int) -> list[float]:
        return self._runner.run(self._one_at_a_time(count))

    async def _one_at_a_time(self, count: int) -> list[float]:
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            await self._actor.ping(BODY)
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
                await self._actor.ping(BODY)

        began = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(WINDOW)))
        return time.perf_counter() - began

    def close(self) -> None:
        self._runner.run(self._pool.stop())
        self._runner.close()
