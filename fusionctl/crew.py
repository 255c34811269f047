"""Agents, tools and MCP servers, as a client asks for them."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fusionctl.approving import Approvals, Approve
from fusiond.errors import NotFound
from fusiond.protocol import agents as protocol
from fusiond.protocol.approvals import ApprovalAsk
from fusiond.protocol.tools import (
    CallTool,
    GetPrompt,
    McpServerDetail,
    McpServerInfo,
    ReadResource,
    ToolDetail,
    ToolInfo,
    ToolName,
    ToolOutcome,
    approval_key,
    server_of,
)

if TYPE_CHECKING:
    from fusiond.protocol.control import Health

T = TypeVar("T")
OnEvent = Callable[[protocol.RunEvent], None]

_encode = msgspec.msgpack.Encoder().encode


class Crew:
    """The part of `Client` that concerns agents and their tools."""

    # --- agents ---------------------------------------------------------------------------------------------

    async def agents(self) -> list[protocol.AgentInfo]:
        """Every agent, and after them what is wrong with others."""
        return await self._get("agent", "list", b"", list[protocol.AgentInfo])

    async def agent(self, name: str) -> protocol.AgentDetail:
        return await self._get("agent", "show", _encode(protocol.AgentName(name)), protocol.AgentDetail)

    async def run(
        self,
        agent: str,
        task: str,
        *,
        approve: Approve | None = None,
        on_event: OnEvent | None = None,
        run: str = "",
        **options: Any,
    ) -> protocol.RunReply:
        """Has `agent` do `task`; the reply has the answer and how it came about.

        `approve` is asked about calls that need a person's word; without it such a run ends with `Denied`, and can be
        resumed. `on_event` is told of each step. `run` names the run, 32 hex digits, "" makes a name. Further options
        as in `RunRequest`: model, system, options, max_steps, max_tokens, max_seconds, approve_all. Goes on through the
        death of every process, the daemon's included.
        """
        request = protocol.RunRequest(run=run or os.urandom(16).hex(), agent=agent, task=task, **options)
        return await self._run(request, approve, on_event)

    async def route(self, task: str, **options: Any) -> protocol.RunReply:
        """Has the one agent do `task` that a model finds best for it. Options as for `run`."""
        return await self.run("router", task, **options)

    async def orchestrate(self, task: str, **options: Any) -> protocol.RunReply:
        """Has several agents do `task` under a supervisor. Options as for `run`."""
        return await self.run("supervisor", task, **options)

    async def resume(
        self,
        run: str,
        *,
        approve: Approve | None = None,
        on_event: OnEvent | None = None,
        approve_all: bool = False,
    ) -> protocol.RunReply:
        """Goes on with a run, by its id or the beginning of it; one that has an answer gives it again."""
        found = await self.run_detail(run)
        request = protocol.RunRequest(run=found.id, approve_all=approve_all)
        return await self._run(request, approve, on_event)

    async def runs(self, limit: int = 100) -> list[protocol.RunSummary]:
        """The newest runs."""
        body = _encode(protocol.ListRuns(limit))
        return await self._get("store", "runs.list", body, list[protocol.RunSummary])

    async def run_detail(self, run: str) -> protocol.RunDetail:
        """A run with each of its steps."""
        return await self._get("store", "runs.show", _encode(protocol.RunId(run)), protocol.RunDetail)

    async def _run(
        self, request: protocol.RunRequest, approve: Approve | None, on_event: OnEvent | None
    ) -> protocol.RunReply:
        approvals = Approvals(approve)
        told: set[tuple[str, int, str]] = set()
        while True:
            wanted = msgspec.structs.replace(request, approvals=approvals.given)
            reply = None
            async with aclosing(self.follow("agent", "run", _encode(wanted))) as bodies:
                async for body, last in bodies:
                    if last:
                        reply = msgspec.msgpack.decode(body, type=protocol.RunReply)
                    elif on_event is not None:
                        _tell(msgspec.msgpack.decode(body, type=protocol.RunEvent), told, on_event)
            assert reply is not None
            if reply.approval is None:
                return reply
            await approvals.ask(reply.approval)

    # --- tools ----------------------------------------------------------------------------------------------

    async def tools(self) -> list[ToolInfo]:
        """Every tool, those of MCP servers too."""
        return await self._get("tools", "list", b"", list[ToolInfo])

    async def tool(self, name: str) -> ToolDetail:
        return await self._get("tools", "show", _encode(ToolName(name)), ToolDetail)

    async def call_tool(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, approve: Approve | None = None
    ) -> ToolOutcome:
        """Calls a tool once. `mcp:SERVER/TOOL` is a server's. `approve` as for `run`."""
        server = server_of(name)
        service = f"mcp.{server[0]}" if server else "tools"
        call = CallTool(
            name=server[1] if server else name, arguments=msgspec.json.encode(dict(arguments or {}))
        )
        outcome = await self._call(service, call)
        if outcome.kind == "approval":
            ask = ApprovalAsk(
                run="", call=name, agent="", tool=name, input=call.arguments.decode(), key=approval_key(name)
            )
            approvals = Approvals(approve)
            await approvals.ask(ask)
            if approvals.given[name] == "no":
                return ToolOutcome(kind="denied", text="the person did not allow this call")
            outcome = await self._call(service, msgspec.structs.replace(call, approved=True))
        return outcome

    async def _call(self, service: str, call: CallTool) -> ToolOutcome:
        try:
            body = await self.request(service, "call", _encode(call), repeatable=False)
        except NotFound as error:
            raise await self._named(error, service) from None
        return msgspec.msgpack.decode(body, type=ToolOutcome)

    # --- MCP servers ----------------------------------------------------------------------------------------

    async def mcp_servers(self) -> list[McpServerInfo]:
        return await self._get("tools", "servers", b"", list[McpServerInfo])

    async def mcp_server(self, name: str) -> McpServerDetail:
        return await self._mcp(name, "show", b"", McpServerDetail)

    async def mcp_tools(self, name: str) -> list[ToolInfo]:
        return await self._mcp(name, "tools", b"", list[ToolInfo])

    async def mcp_resource(self, name: str, uri: str) -> ToolOutcome:
        """What stands at `uri` of an MCP server."""
        return await self._mcp(name, "read", _encode(ReadResource(uri)), ToolOutcome)

    async def mcp_prompt(self, name: str, prompt: str, arguments: Mapping[str, str]) -> ToolOutcome:
        """A prompt of an MCP server, filled in."""
        return await self._mcp(name, "prompt", _encode(GetPrompt(prompt, dict(arguments))), ToolOutcome)

    async def _mcp(self, server: str, verb: str, body: bytes, reply: type[T]) -> T:
        try:
            return await self._get(f"mcp.{server}", verb, body, reply)
        except NotFound as error:
            raise await self._named(error, f"mcp.{server}") from None

    async def _named(self, error: NotFound, service: str) -> NotFound:
        """The error; where it says that there is no such service, in the words of MCP servers."""
        kind, _, name = service.partition(".")
        if kind != "mcp" or "no service" not in error.message:
            return error
        from difflib import get_close_matches

        health = await self.health()
        known = [actor.name.partition(".")[2] for actor in health.actors if actor.kind == "mcp"]
        near = get_close_matches(name, known, 1)
        advice = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
        return NotFound(f'there is no MCP server "{name}"', advice=advice)

    # --- what the client gives ------------------------------------------------------------------------------

    async def _get(self, service: str, verb: str, body: bytes, reply: type[T]) -> T:
        return msgspec.msgpack.decode(await self.request(service, verb, body), type=reply)

    if TYPE_CHECKING:  # what `Client` has besides

        async def request(
            self,
            service: str,
            verb: str,
            body: bytes = b"",
            *,
            timeout: float | None = None,
            repeatable: bool = True,
        ) -> bytes: ...

        def follow(
            self, service: str, verb: str, body: bytes
        ) -> AsyncGenerator[tuple[bytes, bool], None]: ...

        async def health(self) -> Health: ...


def _tell(event: protocol.RunEvent, told: set[tuple[str, int, str]], on_event: OnEvent) -> None:
    """Each step once in each of its states, however often a broken stream repeats it."""
    if event.step is not None:
        key = (event.run, event.step.n, event.step.state)
        if key in told:
            return
        told.add(key)
    on_event(event)
