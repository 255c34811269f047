"""A thousand connected clients, each asking once a second: how long it takes, and whether anybody is refused."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import zmq

from fusiond.errors import FusionError
from fusiond.runtime import linux
from fusiond.transport.loops import DirectLoop
from fusiond.transport.requester import Requester
from tests.bench.echo import BODY
from tests.bench.report import Report, Row, p50, percentile
from tests.bench.tree import Tree

_CLIENTS = 1000
_P99_MS = 20.0
_PATIENCE_S = 30.0


def run(say: Callable[[str], None], *, seconds: float = 20) -> Report:
    """`seconds`: how long they all ask."""
    linux.raise_open_files()
    with Tree() as tree, asyncio.Runner(loop_factory=DirectLoop) as runner:
        taken, refused = runner.run(_crowd(say, f"ipc://{tree.paths.router_socket}", seconds))
    report = Report(
        f"{_CLIENTS:,} clients, each a request a second",
        f"256 bytes from each client through the router to an actor and back, for {seconds:g} s, in ms; each has a "
        "connection of its own, and all of them live in the process that measures.",
        {"requests": 0, "p50 ms": 2, "p99 ms": 2, "max ms": 2, "refused": 0},
    )
    in_ms = [each * 1000 for each in taken]
    row = Row(
        "Fusion: client, router, actor",
        {
            "requests": len(taken),
            "p50 ms": p50(in_ms),
            "p99 ms": percentile(in_ms, 99),
            "max ms": max(in_ms),
            "refused": refused,
        },
    )
    row.target = f"p99 ≤ {_P99_MS:g} ms, none refused"
    row.met = row.values["p99 ms"] <= _P99_MS and not refused
    report.rows.append(row)
    return report


async def _crowd(say: Callable[[str], None], endpoint: str, seconds: float) -> tuple[list[float], int]:
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4 * _CLIENTS)
    clients = [Requester(endpoint, context=context) for _ in range(_CLIENTS)]
    for client in clients:
        await client.request("agent", "ping", BODY, timeout=_PATIENCE_S)
    say(f"clients: {_CLIENTS:,} are connected")
    taken: list[float] = []
    refused = 0

    async def ask(client: Requester) -> None:
        nonlocal refused
        due = began + random.random()
        while due < began + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sent = time.perf_counter()
            try:
                await client.request("agent", "ping", BODY, timeout=_PATIENCE_S)
            except FusionError:
                refused += 1
            taken.append(time.perf_counter() - sent)
            due += 1

    began = time.perf_counter()
    await asyncio.gather(*map(ask, clients))
    for client in clients:
        await client.close()
    context.destroy(0)
    return taken, refused
