"""An agent's tools: which it may use, and how they are called."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from fusiond.actors.base import Port
from fusiond.errors import FusionError, OutcomeUnknown
from fusiond.protocol.tools import MCP, CallTool, ToolInfo, ToolOutcome, server_of

_PATIENCE = 5.0  # seconds for a server to list its tools

_encode = msgspec.msgpack.Encoder().encode
_decode_infos = msgspec.msgpack.Decoder(list[ToolInfo]).decode
_decode_outcome = msgspec.msgpack.Decoder(ToolOutcome).decode


class Toolbox:
    """Tools behind a port."""

    def __init__(self, port: Port) -> None:
        self._port = port

    async def choose(self, patterns: Sequence[str]) -> tuple[list[ToolInfo], list[str]]:
        """The tools that `patterns` name, in their order, and what is to be said of those that cannot be had."""
        wanted = [pattern for pattern in patterns if pattern]
        if not wanted:
            return [], []
        services = {f"mcp.{found[0]}" for pattern in wanted if (found := server_of(pattern))}
        if any(not pattern.startswith(MCP) for pattern in wanted):
            services.add("tools")
        listed = dict(zip(services, await asyncio.gather(*map(self._list, services)), strict=True))
        known = [tool for tools in listed.values() if isinstance(tools, list) for tool in tools]
        usable = [tool for tool in known if not tool.problem and tool.approval != "never"]
        chosen: dict[str, ToolInfo] = {}
        news = []
        for pattern in wanted:
            fitting = [tool for tool in usable if _fits(tool.name, pattern)]
            chosen |= {tool.name: tool for tool in fitting if tool.name not in chosen}
            if not fitting:
                news.append(f"{pattern} is not available{_why(pattern, known, listed)}")
        return list(chosen.values()), news

    async def call(self, tool: ToolInfo, given: str, *, approved: bool, timeout: float | None) -> ToolOutcome:
        """The outcome of one call; whatever goes wrong is one too."""
        server = server_of(tool.name)
        ask = CallTool(name=server[1] if server else tool.name, arguments=given.encode(), approved=approved)
        service = f"mcp.{server[0]}" if server else "tools"
        try:
            body = await self._port.request(
                service, "call", _encode(ask), timeout=timeout, repeatable=tool.repeatable
            )
            return _decode_outcome(body)
        except OutcomeUnknown as error:
            return ToolOutcome(kind="crashed", text=unknown(error.message))
        except FusionError as error:
            return ToolOutcome(kind="error", text=str(error))

    async def _list(self, service: str) -> list[ToolInfo] | FusionError:
        try:
            verb = "own" if service == "tools" else "tools"
            return _decode_infos(await self._port.request(service, verb, b"", timeout=_PATIENCE))
        except FusionError as error:
            return error


def unknown(why: str) -> str:
    """What a model is told of a call that may or may not have been carried out."""
    return (
        f"interrupted: {why}. Whether the call was carried out is not known. "
        "Find out before you do it again, if doing it twice would do harm."
    )


def _fits(name: str, pattern: str) -> bool:
    if pattern == "*":
        return not name.startswith(MCP)
    return fnmatchcase(name, pattern)


def _why(pattern: str, known: Iterable[ToolInfo], listed: dict[str, Any]) -> str:
    found = next((tool for tool in known if tool.name == pattern), None)
    if found is not None:
        return f": {found.problem or 'it may never be called'}"
    server = server_of(pattern)
    answer = listed.get(f"mcp.{server[0]}" if server else "tools")
    return f": {answer.message}" if isinstance(answer, FusionError) else ""
