"""What a call costs through the tree: a tool through its worker against the function in place, a tool of an MCP server
through its actor against the bare SDK client at a server of the same kind. They take turns, in blocks of calls.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from fusiond.config.schema import ToolsSettings
from fusiond.protocol.tools import CallTool, ToolOutcome
from fusiond.tools import registry
from fusiond.tools.calling import call
from fusiond.tools.settings import ToolsConfig
from fusiond.transport.requester import Requester
from tests.bench.agents import tree
from tests.bench.report import Report, Row, p50, percentile
from tests.bench.tree import REMOTE, Tree

_TARGET_MS = 1.0
_BLOCK = 50
_SERVER = Path(__file__).parents[1] / "mcp" / "scripted_server.py"
_MCP = f"""\
[mcp.servers.scripted]
command = '{sys.executable}'
args = ["-S", '{_SERVER}']
"""


def run(say: Callable[[str], None], *, blocks: int = 20) -> Report:
    """`blocks` blocks of each side."""
    with tree(REMOTE + _MCP) as daemon:
        sides = asyncio.run(_measure(say, daemon, blocks))
    report = Report(
        "A call of a tool, in ms",
        "A program of ours asks through the router; the floors are the function itself and the bare SDK client.",
        {"p50": 3, "p99": 3},
    )
    for floor, ours in (
        ("the function in place", "through the tools process"),
        ("the bare SDK client", "through mcp.scripted"),
    ):
        for name in (floor, ours):
            report.rows.append(Row(name, {"p50": p50(sides[name]), "p99": percentile(sides[name], 99)}))
        added = p50(sides[ours]) - p50(sides[floor])
        report.rows.append(Row("added", {"p50": added}, f"≤ {_TARGET_MS:g}", added <= _TARGET_MS))
    return report


async def _measure(say: Callable[[str], None], daemon: Tree, blocks: int) -> dict[str, list[float]]:
    from mcp import Client, StdioServerParameters

    requester = Requester(f"ipc://{daemon.paths.router_socket}")
    settings = ToolsSettings(modules=["bench_tools"])
    config = ToolsConfig(settings=settings, folder=str(daemon.home), workspace=str(daemon.home), run_dir="")
    noop = registry.load(config).get("noop")
    server = StdioServerParameters(command=sys.executable, args=["-S", str(_SERVER)], env=dict(os.environ))
    encoded = {
        name: msgspec.msgpack.encode(CallTool(name=name, arguments=arguments))
        for name, arguments in (("noop", b'{"n": 7}'), ("echo", b'{"text": "7"}'))
    }

    async def ask(service: str, name: str) -> str:
        body = await requester.request(service, "call", encoded[name], repeatable=False)
        return msgspec.msgpack.decode(body, type=ToolOutcome).text

    async with Client(server) as bare:

        async def in_place() -> str:
            return call(noop, b'{"n": 7}').text

        async def sdk() -> str:
            result = await bare.call_tool("echo", {"text": "7"})
            return str(getattr(result.content[0], "text", ""))

        sides: dict[str, Callable[[], Awaitable[str]]] = {
            "the function in place": in_place,
            "through the tools process": lambda: ask("tools", "noop"),
            "the bare SDK client": sdk,
            "through mcp.scripted": lambda: ask("mcp.scripted", "echo"),
        }
        took: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(1 + blocks):  # the first is for warming up
            say(f"calls: block {number} of {blocks}")
            for name, do in sides.items():
                for _ in range(_BLOCK):
                    began = time.perf_counter()
                    assert await do() == "7"
                    took[name].append((time.perf_counter() - began) * 1000)
    await requester.close()
    return {name: samples[_BLOCK:] for name, samples in took.items()}
