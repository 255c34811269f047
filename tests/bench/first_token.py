"""What the tree adds to the time to the first token: client, router, agent, router, llm actor, against httpx alone.

One server answers both at once with a stream; the questions alternate. Each of Fusion's begins a conversation, which is
recorded on disk before the model is asked, as a user has it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from fusionctl.client import Client
from tests.bench.direct import Direct
from tests.bench.instant_server import TEXT, Server
from tests.bench.report import Report, Row, p50, percentile
from tests.bench.tree import Tree

_TARGET_MS = 3.0
_WARM_UP = 50
_PROMPT = "What do you say?"


def run(say: Callable[[str], None], *, rounds: int = 1000) -> Report:
    """Asks each side `rounds` times, in turn."""
    with Server() as server, Tree(server.config) as tree:
        fusion, direct = asyncio.run(_measure(say, tree, server.url, rounds))
    added = [through - alone for through, alone in zip(fusion, direct, strict=True)]
    report = Report(
        "Time to the first token, in ms",
        "One server, which answers at once, asked in turn; each of Fusion's questions begins a conversation on disk.",
        {"p50": 2, "p99": 2},
    )
    for name, samples in (
        ("httpx alone", direct),
        ("Fusion: client, router, agent, llm", fusion),
        ("what Fusion adds", added),
    ):
        report.rows.append(Row(name, {"p50": p50(samples), "p99": percentile(samples, 99)}))
    report.rows[-1].target = f"p50 ≤ {_TARGET_MS:g}"
    report.rows[-1].met = p50(added) <= _TARGET_MS
    return report


async def _measure(
    say: Callable[[str], None], tree: Tree, url: str, rounds: int
) -> tuple[list[float], list[float]]:
    fusion: list[float] = []
    direct: list[float] = []
    api = Direct(url)
    async with Client(tree.home, autostart=False) as client:
        for number in range(_WARM_UP + rounds):
            say(f"first_token: round {number + 1} of {_WARM_UP + rounds}")
            fusion.append(await _first_ms(_texts(client)))
            direct.append(await _first_ms(api.stream(_PROMPT)))
    await api.close()
    return fusion[_WARM_UP:], direct[_WARM_UP:]


async def _texts(client: Client) -> AsyncIterator[str]:
    async for chunk in client.stream(_PROMPT):
        yield chunk.text


async def _first_ms(texts: AsyncIterator[str]) -> float:
    """Until the first piece; the others are read too."""
    began = time.perf_counter()
    text = await anext(texts)
    took = time.perf_counter() - began
    async for piece in texts:
        text += piece
    assert text == TEXT, f"a wrong answer: {text!r}"
    return took * 1000
