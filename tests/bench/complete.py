"""One side of the throughput's comparison, in a process of its own: whole completions, many at once.

`python -m tests.bench.complete NAME URL`, driven by `tests.bench.echo.Side`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from tests.bench.echo import Closing, obey

IN_FLIGHT = 64
PROMPT = "What do you say?"


async def many(count: int, ask: Callable[[], Awaitable[None]]) -> float:
    """The seconds that `count` asks took, `IN_FLIGHT` of them at once."""
    left = count

    async def keep_asking() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await ask()

    began = time.perf_counter()
    await asyncio.gather(*(keep_asking() for _ in range(IN_FLIGHT)))
    return time.perf_counter() - began


def _fusion(url: str) -> Closing:
    from tests.bench.complete_fusion import FusionCompletions

    return FusionCompletions(url)


def _provider(url: str) -> Closing:
    from tests.bench.complete_peers import ProviderCompletions

    return ProviderCompletions(url)


def _openai(url: str) -> Closing:
    from tests.bench.complete_openai import OpenAICompletions

    return OpenAICompletions(url)


def _floor(url: str) -> Closing:
    from tests.bench.complete_peers import FloorCompletions

    return FloorCompletions(url)


if __name__ == "__main__":
    obey({"fusion": _fusion, "provider": _provider, "openai": _openai, "floor": _floor})
