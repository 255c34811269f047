"""Many streams at once: what the tree adds to the pause between two tokens, against httpx alone.

The server writes into each token when it wrote it (the monotonic clock is one for all processes of a machine), and at
the end a checksum. Added is the pause before a token at the client less that at the server; tokens that arrive together
have none.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

from fusionctl.client import Client
from tests.bench.direct import Direct
from tests.bench.instant_server import Server
from tests.bench.report import Report, Row, p50, percentile
from tests.bench.tree import Tree

_STREAMS = 64
_TOKENS = 200
_PER_SECOND = 50
_TARGET_MS = 8.0
_FUSION, _DIRECT = "Fusion: client, agent, llm", "httpx alone"

Arrivals = list[tuple[int, str]]
"""Pieces of one stream, each with the monotonic nanoseconds of its arrival."""


def run(say: Callable[[str], None], *, rounds: int = 3) -> Report:
    """Each side `rounds` times, in turn."""
    found: dict[str, list[Arrivals]] = {_FUSION: [], _DIRECT: []}
    with Server(tokens=_TOKENS, per_second=_PER_SECOND) as server, Tree(server.config) as tree:
        for number in range(rounds):
            say(f"streams: round {number + 1} of {rounds}")
            found[_FUSION] += asyncio.run(_fusion(tree))
            found[_DIRECT] += asyncio.run(_direct(server.url))
    report = Report(
        "Concurrent streams: what is added to the pause between two tokens, in ms",
        f"{_STREAMS} streams of {_TOKENS} tokens at once, {_PER_SECOND} tokens/s each; clean: the text is exact.",
        {"streams": 0, "clean": 0, "p50": 2, "p99": 2, "max": 1},
    )
    report.rows = [_row(name, streams) for name, streams in found.items()]
    fusion = report.rows[0]
    fusion.target = f"all clean, p99 ≤ {_TARGET_MS:g}"
    fusion.met = (
        fusion.values["clean"] == fusion.values["streams"] and fusion.values.get("p99", 0) <= _TARGET_MS
    )
    return report


async def _fusion(tree: Tree) -> list[Arrivals]:
    async def texts() -> AsyncIterator[str]:
        async for chunk in client.stream("count"):
            assert not chunk.reset, "a stream began anew"
            yield chunk.text

    async with Client(tree.home, autostart=False) as client:
        await client.ping("agent")
        return await asyncio.gather(*(_arrivals(texts()) for _ in range(_STREAMS)))


async def _direct(url: str) -> list[Arrivals]:
    api = Direct(url)
    try:
        return await asyncio.gather(*(_arrivals(api.stream("count")) for _ in range(_STREAMS)))
    finally:
        await api.close()


async def _arrivals(texts: AsyncIterator[str]) -> Arrivals:
    return [(time.monotonic_ns(), text) async for text in texts]


def _row(name: str, streams: list[Arrivals]) -> Row:
    clean = [stream for stream in streams if _is_clean("".join(text for _, text in stream))]
    row = Row(name, {"streams": len(streams), "clean": len(clean)})
    if added := [pause for stream in clean for pause in _added_ms(stream)]:
        row.values |= {"p50": p50(added), "p99": percentile(added, 99), "max": max(added)}
    return row


def _is_clean(text: str) -> bool:
    """Whether every token came, unchanged and in order."""
    tokens = text.splitlines(keepends=True)
    said = "".join(tokens[:-1])
    numbers = [token.partition(" ")[0] for token in tokens[:-1]]
    return (
        numbers == [str(number) for number in range(_TOKENS)]
        and tokens[-1] == f"{zlib.crc32(said.encode())}\n"
    )


def _added_ms(stream: Arrivals) -> list[float]:
    """For each token but the first: how much longer it let wait for itself here than there."""
    seen = [
        (arrived, int(token.split()[1]))
        for arrived, text in stream
        for token in text.splitlines()
        if " " in token  # else the checksum
    ]
    delays = [arrived - written for arrived, written in seen]
    return [(later - earlier) / 1e6 for earlier, later in pairwise(delays)]
