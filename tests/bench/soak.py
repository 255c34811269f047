"""Many chats through one tree: does memory grow? Each begins a conversation, is answered at once and is recorded.

Takes some minutes; runs only when it is named.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec
import psutil

from fusiond.protocol.chat import ChatReply, ChatRequest
from fusiond.transport.loops import DirectLoop
from fusiond.transport.requester import Requester
from tests.bench.instant_server import TEXT, Server
from tests.bench.report import Report, Row
from tests.bench.tree import Tree

_ACTORS = ("router", "agent.0", "llm.0", "store")
_IN_FLIGHT = 64
_LEG = 2000
_WARM = 10  # the first of so many parts of the requests; what grows later is a leak
_REST_S = 1.0  # after the last answer: acknowledgements arrive, what is done is let go
_RATIO = 1.05

_request = msgspec.msgpack.encode(ChatRequest(prompt="What do you say?"))
_decode = msgspec.msgpack.Decoder(ChatReply).decode


def run(say: Callable[[str], None], *, requests: int = 200_000) -> Report:
    """`requests` chats, memory seen after a tenth of them and at the end."""
    with Server() as server, Tree(server.config) as tree, asyncio.Runner(loop_factory=DirectLoop) as runner:
        warm = max(1, requests // _WARM)
        pids = {name: tree.actor(name).pid for name in _ACTORS}
        runner.run(_chats(say, tree, warm, of=requests, done=0))
        early = _rss_mb(tree)
        began = time.perf_counter()
        runner.run(_chats(say, tree, requests - warm, of=requests, done=warm))
        rate = (requests - warm) / (time.perf_counter() - began)
        late = _rss_mb(tree)
        replaced = [name for name in _ACTORS if tree.actor(name).pid != pids[name]]
    report = Report(
        f"Memory after {requests:,} chats",
        f"RSS in MB, nothing in flight; each chat begins a conversation on disk; {_IN_FLIGHT} at once, {rate:,.0f}/s.",
        {f"after {warm:,}": 1, f"after {requests:,}": 1, "ratio": 3},
    )
    for name in _ACTORS:
        ratio = late[name] / early[name]
        row = Row(name, {f"after {warm:,}": early[name], f"after {requests:,}": late[name], "ratio": ratio})
        row.target, row.met = f"≤ {_RATIO}", ratio <= _RATIO and name not in replaced
        row.note = "its process was replaced" if name in replaced else ""
        report.rows.append(row)
    return report


async def _chats(say: Callable[[str], None], tree: Tree, count: int, *, of: int, done: int) -> None:
    requester = Requester(f"ipc://{tree.paths.router_socket}")
    left = count

    async def ask() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            if left % _LEG == 0:
                say(
                    f"soak: {done + count - left:,} of {of:,}, {(count - left) / (time.perf_counter() - began):,.0f}/s"
                )
            reply = _decode(await requester.request("agent", "chat", _request))
            assert reply.text == TEXT, f"a wrong answer: {reply.text!r}"

    began = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(_IN_FLIGHT)))
    await requester.close()
    await asyncio.sleep(_REST_S)  # part of the measurement


def _rss_mb(tree: Tree) -> dict[str, float]:
    return {name: psutil.Process(tree.actor(name).pid).memory_info().rss / 1e6 for name in _ACTORS}
