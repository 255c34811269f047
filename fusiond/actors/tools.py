"""The tools actor: knows every tool, and has those that are not an MCP server's done by its workers.

It imports no tool itself: a template process does, and forks the workers. Both start when they are first needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import TypeVar

import msgspec

from fusiond.actors.base import Actor, Call, Port, decoded
from fusiond.config.naming import nearest
from fusiond.errors import DeadlineExceeded, FusionError, NotFound
from fusiond.protocol.tools import (
    MCP,
    CallTool,
    McpServerDetail,
    McpServerInfo,
    ToolDetail,
    ToolInfo,
    ToolName,
    ToolOutcome,
    server_of,
)
from fusiond.tools import approval
from fusiond.tools.pool import Pool
from fusiond.tools.settings import ToolsConfig
from fusiond.tools.wire import Known, Order

Ask = TypeVar("Ask")

_SHELL = "shell"  # the built-in tool that is isolated further
_SERVER_S = 5.0  # seconds that an MCP server has to say what it offers
_PARTING = 0.1  # seconds before a call's deadline in which its asker is still told what became of it
_CHECK_S = 5.0  # seconds that looking at arguments may take

_APART = "it runs in a worker with a PID namespace of its own, which ends with all that it has started"
_NOT_APART = (
    "it runs in a worker, which ends with all that it has started; the kernel refuses namespaces here, "
    "so it sees other processes"
)

_encode = msgspec.msgpack.Encoder().encode
_decode_config = msgspec.msgpack.Decoder(ToolsConfig).decode
_decode_call = msgspec.msgpack.Decoder(CallTool).decode
_decode_name = msgspec.msgpack.Decoder(ToolName).decode
_decode_outcome = msgspec.msgpack.Decoder(ToolOutcome).decode
_decode_tools = msgspec.msgpack.Decoder(list[ToolInfo]).decode
_decode_server = msgspec.msgpack.Decoder(McpServerDetail).decode


class Tools(Actor):
    """Serves `list`, `own`, `show`, `call` and `servers`."""

    def __init__(self, config: ToolsConfig) -> None:
        self._config = config
        self._preparing: asyncio.Task[None] | None = None
        self.verbs = {
            "list": self._list,
            "own": self._list_own,
            "show": self._show,
            "call": self._call,
            "servers": self._servers,
        }

    async def setup(self, port: Port) -> None:
        self._port = port
        self._pool = Pool(self._config)
        if self._config.settings.modules:  # they may take long; who has none does without two processes
            self._preparing = asyncio.create_task(self._prepare())

    def children(self) -> list[int]:
        return self._pool.pids

    async def teardown(self) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
        await self._pool.close()

    async def _prepare(self) -> None:
        with suppress(FusionError):  # whoever asks for them is told
            await self._pool.catalogue()

    # --- what there is -----------------------------------------------------------------------------------------------

    async def _list(self, call: Call) -> bytes:  # noqa: ARG002
        own, *others = await asyncio.gather(
            self._own(), *(self._of_server(name) for name in self._config.servers)
        )
        return _encode([*own, *(info for infos in others for info in infos)])

    async def _list_own(self, call: Call) -> bytes:  # noqa: ARG002
        return _encode(await self._own())

    async def _own(self) -> list[ToolInfo]:
        return (await self._pool.catalogue()).infos

    async def _of_server(self, server: str) -> list[ToolInfo]:
        try:
            body = await self._port.request(f"mcp.{server}", "tools", b"", timeout=_SERVER_S)
            return [_of(server, info) for info in _decode_tools(body)]
        except FusionError as error:
            source = f"{MCP}{server}"
            return [ToolInfo(name=source, description="", parameters={}, source=source, problem=str(error))]

    async def _servers(self, call: Call) -> bytes:  # noqa: ARG002
        return _encode(await asyncio.gather(*map(self._server, self._config.servers)))

    async def _server(self, name: str) -> McpServerInfo:
        try:
            body = await self._port.request(f"mcp.{name}", "show", b"", timeout=_SERVER_S)
            shown = _decode_server(body)
        except FusionError as error:
            transport = self._config.servers[name]
            state = "not ready: see fusionctl health" if isinstance(error, DeadlineExceeded) else str(error)
            return McpServerInfo(name=name, state=state, transport=transport, tools=[])
        return McpServerInfo(name=name, state=shown.state, transport=shown.transport, tools=shown.tools)

    async def _show(self, call: Call) -> bytes:
        name = decoded(_decode_name, call).name
        settings = self._config.settings
        limits = settings.timeout_s, settings.memory_mb, settings.max_output_bytes
        if (at := self._server_of(name)) is not None:
            server, tool = at
            body = await self._port.request(f"mcp.{server}", "tools", b"", timeout=_SERVER_S)
            infos = {info.name: info for info in (_of(server, info) for info in _decode_tools(body))}
            if (info := infos.get(name)) is None:
                raise _no_tool(tool, (known.partition("/")[2] for known in infos), f"the MCP server {server}")
            return _encode(
                _detail(info, "it runs in its MCP server, which the daemon does not confine", *limits)
            )
        known = await self._known(name)
        catalogue = await self._pool.catalogue()
        isolation = _APART if catalogue.isolated else _NOT_APART
        if name == _SHELL:
            isolation += f"; {catalogue.shell}"
        return _encode(_detail(known.info, isolation, known.timeout_s or limits[0], *limits[1:]))

    async def _known(self, name: str) -> Known:
        tools = (await self._pool.catalogue()).tools
        if (known := tools.get(name)) is None:
            raise _no_tool(name, tools)
        return known

    def _server_of(self, name: str) -> tuple[str, str] | None:
        """The MCP server and its tool; None if it is no tool of a server. Raises NotFound for an unknown server."""
        at = server_of(name)
        if at is not None and at[0] not in self._config.servers:
            raise _not_found(f"no MCP server {at[0]!r}", at[0], self._config.servers, "fusionctl mcp list")
        return at

    # --- doing it ----------------------------------------------------------------------------------------------------

    async def _call(self, call: Call) -> bytes:
        ask = decoded(_decode_call, call)
        if (at := self._server_of(ask.name)) is not None:
            return await self._forward(call, at[0])
        known = await self._known(ask.name)
        settings = self._config.settings
        if refused := approval.denied(known.info):
            return _encode(refused)
        if known.info.approval == "ask" and not ask.approved:
            checked = await self._pool.call(Order(ask.name, ask.arguments, check=True), _CHECK_S)
            if not _decode_outcome(checked).ok:
                return checked
            return _encode(approval.asked(known.info))
        seconds = known.timeout_s or settings.timeout_s
        if call.remaining is not None:
            seconds = min(seconds, max(0.0, call.remaining - _PARTING))
        return await self._pool.call(Order(ask.name, ask.arguments), seconds)

    async def _forward(self, call: Call, server: str) -> bytes:
        stream = self._port.stream(
            f"mcp.{server}", "call", call.body, timeout=call.remaining, repeatable=False
        )
        async for chunk in stream:
            call.emit(chunk)
        return await stream.result()


def create(config: bytes) -> Actor:
    """The actor for a `ToolsConfig`."""
    return Tools(_decode_config(config))


def _of(server: str, info: ToolInfo) -> ToolInfo:
    """A server's tool under the name that it has everywhere else."""
    prefix = f"{MCP}{server}/"
    return info if info.name.startswith(prefix) else msgspec.structs.replace(info, name=prefix + info.name)


def _detail(
    info: ToolInfo, isolation: str, timeout_s: float, memory_mb: int, max_output_bytes: int
) -> ToolDetail:
    return ToolDetail(
        **{name: getattr(info, name) for name in info.__struct_fields__},
        isolation=isolation,
        timeout_s=timeout_s,
        memory_mb=memory_mb,
        max_output_bytes=max_output_bytes,
    )


def _no_tool(name: str, known: Iterable[str], of: str = "") -> NotFound:
    what = f"{of} has no tool {name!r}" if of else f"no tool {name!r}"
    return _not_found(what, name, known, "fusionctl tools list")


def _not_found(what: str, name: str, known: Iterable[str], look: str) -> NotFound:
    near = nearest(name, known)
    return NotFound(what, advice=f"did you mean {near}?" if near else f"see {look}")
