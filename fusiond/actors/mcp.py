"""An MCP server's actor: one process for each, so that a wedged server hurts no other.

It ends when its server does, or hangs, and the supervisor's policy decides what comes next. Our own server, `fusion`,
is started when it is first needed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import msgspec

from fusiond.actors.base import Actor, Call, NotBegun, Port, decoded
from fusiond.config.naming import nearest
from fusiond.errors import FusionError, NotFound
from fusiond.mcp.settings import McpConfig
from fusiond.protocol.tools import (
    MCP,
    CallProgress,
    CallTool,
    GetPrompt,
    McpServerDetail,
    OutcomeKind,
    ReadResource,
    ToolInfo,
    ToolOutcome,
)
from fusiond.tools import approval

if TYPE_CHECKING:
    from mcp import Client

    from fusiond.mcp.connection import Connection

log = logging.getLogger(__name__)

Ask = TypeVar("Ask")
Item = TypeVar("Item")

_PARTING = 0.1  # seconds before a call's deadline in which its asker is still told what became of it
_LIST_S = 20.0  # seconds that a server has to say what it offers
_QUIET = 10.0  # seconds without a word from a server after which it is asked whether it lives
_PATIENCE = 10.0  # seconds that it has to say so
_KNOWING = 0.05  # seconds between a server's end and our knowing how
_PAGES = 1000  # of a list; one that goes on is taken for endless

_encode = msgspec.msgpack.Encoder().encode
_decode_config = msgspec.msgpack.Decoder(McpConfig).decode
_decode_call = msgspec.msgpack.Decoder(CallTool).decode
_decode_read = msgspec.msgpack.Decoder(ReadResource).decode
_decode_prompt = msgspec.msgpack.Decoder(GetPrompt).decode


class Mcp(Actor):
    """Serves `show`, `tools`, `call`, `read` and `prompt`."""

    def __init__(self, config: McpConfig) -> None:
        self._config = config
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._tools: dict[str, ToolInfo] | None = None
        self._changes = 0
        self._checks: dict[str, Callable[[Any], str]] = {}
        self._listing = asyncio.Lock()
        self._calls = 0
        self._heard_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self.verbs = {
            "show": self._show,
            "tools": self._list,
            "call": self._call,
            "read": self._read,
            "prompt": self._prompt,
        }

    async def setup(self, port: Port) -> None:
        self._port = port
        if not self._config.own:
            await self._connect()

    def children(self) -> list[int]:
        process = self._connection.process if self._connection else None
        return process.pids if process else []

    async def teardown(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._connection is not None:
            await self._connection.close()

    # --- the connection ----------------------------------------------------------------------------------------------

    async def _client(self) -> Client:
        async with self._connecting:
            if self._connection is None:
                await self._connect()
        assert self._connection is not None
        if self._connection.over:
            await self._hand_back()
        return self._connection.client

    async def _hand_back(self) -> NoReturn:
        """The connection has ended, and with it we do."""
        process = self._connection.process if self._connection else None
        if process is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(process.ended(), 1.0)
                await asyncio.sleep(_KNOWING)  # whoever knows how has failed us by then
        self._port.fail(FusionError("the connection to the MCP server ended"))
        raise NotBegun

    async def _connect(self) -> None:
        await self._port.loading()
        from fusiond.mcp.connection import Connection

        connection = self._connection = Connection(self._config, self._port.fail, self._forget)
        try:
            await connection.open()
        except BaseException:
            self._connection = None
            await connection.close()
            raise
        finally:
            self._port.loaded()
        self._heard_at = self._now()
        self._spawn(self._watch())
        self._spawn(connection.listen())
        log.info("connected")

    def _forget(self) -> None:
        self._changes += 1
        self._tools = None
        self._checks.clear()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        """Asks a server that is silent whether it lives. One that works may be too busy to answer."""
        while True:
            await asyncio.sleep(max(0.1, self._heard_at + _QUIET - self._now()))
            if self._calls:
                await asyncio.sleep(_QUIET)
            elif self._now() - self._heard_at >= _QUIET:
                await self._probe()

    async def _probe(self) -> None:
        """One that says nothing at all hangs, whatever it has been asked."""
        assert self._connection is not None
        patience = min(_PATIENCE, self._config.server.timeout_s)
        began = self._now()
        if await self._connection.is_alive(patience):
            self._heard_at = self._now()
        elif self._heard_at < began:
            error = f"the MCP server hangs: it did not answer a ping within {patience:g} s"
            self._port.fail(FusionError(error))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    # --- what it offers ----------------------------------------------------------------------------------------------

    async def _list(self, call: Call) -> bytes:  # noqa: ARG002
        return _encode(list((await self._known()).values()))

    async def _known(self) -> dict[str, ToolInfo]:
        async with self._listing:
            if self._tools is None:
                from fusiond.mcp.translate import tools

                client = await self._client()
                before = self._changes
                pages: list[Any] = []
                if client.server_capabilities.tools is not None:
                    pages = await self._pages(client.list_tools, lambda page: page.tools)
                if (
                    self._config.own
                ):  # a name that is not known is a typo; others may want what they do not list
                    for tool in pages:
                        tool.input_schema = {**tool.input_schema, "additionalProperties": False}
                known = tools(self._config.name, pages, self._config.approval)
                if self._changes == before:  # else what was listed is old already
                    self._tools = known
                return known
            return self._tools

    async def _show(self, call: Call) -> bytes:  # noqa: ARG002
        from fusiond.mcp import translate

        client = await self._client()
        offers = client.server_capabilities
        resources: list[Any] = []
        templates: list[Any] = []
        prompts: list[Any] = []
        if offers.resources is not None:
            resources = await self._pages(client.list_resources, lambda page: page.resources)
            templates = await self._pages(
                client.list_resource_templates, lambda page: page.resource_templates
            )
        if offers.prompts is not None:
            prompts = await self._pages(client.list_prompts, lambda page: page.prompts)
        info, process = client.server_info, self._connection and self._connection.process
        return _encode(
            McpServerDetail(
                name=self._config.name,
                state="ready",
                transport="http" if self._config.server.url else "stdio",
                tools=list(await self._known()),
                server=translate.described(f"{info.name} {info.version}") if info else "",
                protocol=client.protocol_version,
                instructions=translate.described(client.instructions),
                resources=translate.resources(resources, templates),
                prompts=translate.prompts(prompts),
                pid=process.server if process else None,
            )
        )

    async def _pages(self, get: Callable[..., Awaitable[Any]], of: Callable[[Any], list[Item]]) -> list[Item]:
        found: list[Item] = []
        cursor: str | None = None
        seen: set[str] = set()
        try:
            async with asyncio.timeout(_LIST_S):
                for _ in range(_PAGES):
                    page = await get(cursor=cursor)
                    found += of(page)
                    cursor = page.next_cursor
                    if not cursor or cursor in seen:
                        break
                    seen.add(cursor)
        except TimeoutError:
            self._spawn(self._probe())
            raise FusionError(
                f"the MCP server {self._config.name} did not say what it offers within {_LIST_S:g} s"
            ) from None
        except Exception as error:
            from mcp_types import CONNECTION_CLOSED, METHOD_NOT_FOUND

            if _has_code(error, METHOD_NOT_FOUND):
                return []
            if _has_code(error, CONNECTION_CLOSED):
                await self._hand_back()
            raise self._error(error, "did not say what it offers") from error
        return found

    # --- asking it ---------------------------------------------------------------------------------------------------

    async def _call(self, call: Call) -> bytes:
        ask = decoded(_decode_call, call)
        name = ask.name.removeprefix(f"{MCP}{self._config.name}/")
        known = await self._known()
        if (info := known.get(name)) is None:
            raise self._nothing("tool", name, list(known))
        check = self._checks.get(name)
        if check is None or self._tools is not known:
            from fusiond.tools.validation import checker

            check = checker(info.parameters)
            if self._tools is known:  # else it is of a list that is old already
                self._checks[name] = check
        wrong, arguments = _arguments(info, check, ask)
        if wrong is not None:
            return _encode(wrong)

        from fusiond.mcp.translate import outcome

        started = time.perf_counter()
        told = await self._ask(
            call,
            f"the tool {name}",
            lambda client, heard: client.call_tool(name, arguments, progress_callback=_reporter(call, heard)),
            lambda result: outcome(result, self._config.max_output_bytes),
        )
        return _encode(msgspec.structs.replace(told, ms=(time.perf_counter() - started) * 1000))

    async def _read(self, call: Call) -> bytes:
        uri = decoded(_decode_read, call).uri
        from fusiond.mcp.translate import read

        return _encode(
            await self._ask(
                call,
                f"the resource {uri}",
                lambda client, _: client.read_resource(uri),
                lambda result: read(result, self._config.max_output_bytes),
            )
        )

    async def _prompt(self, call: Call) -> bytes:
        ask = decoded(_decode_prompt, call)
        from fusiond.mcp.translate import prompt

        return _encode(
            await self._ask(
                call,
                f"the prompt {ask.name}",
                lambda client, _: client.get_prompt(ask.name, ask.arguments),
                lambda result: prompt(result, self._config.max_output_bytes),
            )
        )

    async def _ask(
        self,
        call: Call,
        what: str,
        ask: Callable[[Client, Callable[[], None]], Awaitable[Any]],
        told: Callable[[Any], ToolOutcome],
    ) -> ToolOutcome:
        """One request to the server, in the time that it has: whatever goes wrong with it is an outcome.

        `ask` may call what it is given to have its time anew. Cancelled, the server is told.
        """
        client = await self._client()
        seconds = self._config.server.timeout_s
        until = math.inf
        if call.remaining is not None:
            until = self._now() + max(0.0, call.remaining - _PARTING)
            seconds = min(seconds, until - self._now())
        self._calls += 1
        try:
            async with asyncio.timeout(seconds) as limit:
                result = await ask(client, lambda: limit.reschedule(min(self._now() + seconds, until)))
        except TimeoutError:
            self._spawn(self._probe())
            return ToolOutcome(
                kind="timeout",
                text=f"{what} was not done after {seconds:g} s and was given up; what it did until then may stand",
            )
        except NotBegun:
            raise
        except Exception as error:
            return self._failed(error, what)
        finally:
            self._calls -= 1
        self._heard_at = self._now()
        return told(result)

    def _failed(self, error: Exception, what: str) -> ToolOutcome:
        from mcp.shared.exceptions import MCPError

        kind: OutcomeKind = "error"
        text = str(self._error(error, f"failed at {what}"))
        from mcp_types import CONNECTION_CLOSED

        if _has_code(error, CONNECTION_CLOSED):
            kind, text = "crashed", f"the MCP server ended during {what}; what it did until then may stand"
        elif not isinstance(error, MCPError | RuntimeError | ValueError):
            kind = "crashed"
            self._spawn(self._probe())
        return ToolOutcome(kind=kind, text=text)

    def _error(self, error: Exception, what: str) -> FusionError:
        if isinstance(error, FusionError):
            return error
        from fusiond.mcp.connection import without_secrets

        return FusionError(
            f"the MCP server {self._config.name} {what}: {without_secrets(error, self._config)}"
        )

    def _nothing(self, kind: str, name: str, known: list[str]) -> NotFound:
        near = nearest(name, known)
        server = self._config.name
        advice = f"did you mean {near}?" if near else f"see fusionctl mcp tools {server}"
        return NotFound(f"the MCP server {server} has no {kind} {name!r}", advice=advice)


def create(config: bytes) -> Actor:
    """The actor for an `McpConfig`."""
    return Mcp(_decode_config(config))


def _reporter(call: Call, heard: Callable[[], None]) -> Any:
    """Passes progress on."""

    async def report(progress: float, total: float | None, message: str | None) -> None:
        heard()
        call.emit(_encode(CallProgress(progress=progress, total=total, message=message or "")))

    return report


def _arguments(
    info: ToolInfo, check: Callable[[Any], str], ask: CallTool
) -> tuple[ToolOutcome | None, dict[str, Any]]:
    """What stands against the call before anything is done, and its arguments."""
    from fusiond.tools.validation import read_object

    if refused := approval.denied(info):
        return refused, {}
    arguments, wrong = read_object(ask.arguments)
    if wrong := wrong or check(arguments):
        return ToolOutcome(kind="invalid", text=wrong), {}
    if info.approval == "ask" and not ask.approved:
        return approval.asked(info), {}
    return None, arguments


def _has_code(error: Exception, code: int) -> bool:
    from mcp.shared.exceptions import MCPError

    return isinstance(error, MCPError) and error.code == code
