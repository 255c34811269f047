"""What tests of MCP servers share: their configuration, and asking them as programs do."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import psutil

from fusionctl.client import Client
from fusiond.protocol.tools import ToolOutcome
from tests.tree import Tree

T = TypeVar("T")

SCRIPT = Path(__file__).with_name("scripted_server.py")
NO_MODEL = 'model = "lab/none"\n[providers.lab]\nbase_url = "http://127.0.0.1:9/v1"\n'


def scripted(name: str, *manners: str, env: dict[str, str] | None = None, **more: Any) -> str:
    """The table of a scripted server."""
    lines = [f"[mcp.servers.{name}]", f"command = {json.dumps(sys.executable)}"]
    lines.append(f"args = {json.dumps(['-S', str(SCRIPT), *manners])}")
    lines += [f"{key} = {json.dumps(value)}" for key, value in more.items()]
    if env:
        lines.append(
            "env = {" + ", ".join(f"{key} = {json.dumps(value)}" for key, value in env.items()) + "}"
        )
    return "\n".join(lines) + "\n"


def asking(tree: Tree, ask: Callable[[Client], Awaitable[T]]) -> T:
    """What a program gets."""

    async def main() -> T:
        async with Client(tree.home, autostart=False) as client:
            return await ask(client)

    return asyncio.run(main())


def call(tree: Tree, server: str, tool: str, **arguments: Any) -> ToolOutcome:
    return asking(tree, lambda client: client.call_tool(f"mcp:{server}/{tool}", arguments))


def is_ready(tree: Tree, server: str) -> bool:
    return bool(tree.actor(f"mcp.{server}")["state"] == "ready")


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def running_of(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
