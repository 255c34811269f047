"""What the commands for tools, MCP servers and agents share: one question to a client, and the outcome of a call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from fusionctl import output
from fusionctl.invocation import Invocation, notice

if TYPE_CHECKING:
    from fusionctl.client import Client
    from fusiond.protocol.tools import ToolOutcome

T = TypeVar("T")

_EXIT = {"ok": 0, "invalid": 2, "denied": 77, "approval": 77, "timeout": 124}


def ask_client(invocation: Invocation, call: Callable[[Client], Awaitable[T]]) -> T:
    """What `call` gives, asked in an event loop of its own."""
    import asyncio

    from fusionctl.client import Client

    async def run() -> T:
        async with Client(invocation.home, autostart=invocation.autostart, notice=notice) as client:
            return await call(client)

    return asyncio.run(run())


def exit_code(outcome: ToolOutcome) -> int:
    """What a call's outcome means to a script."""
    return _EXIT.get(outcome.kind, 1)


def outcome_document(outcome: ToolOutcome) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(outcome)
    return {"ok": outcome.ok, **document}


def put_outcome(outcome: ToolOutcome) -> None:
    """The text on standard output if it is what was asked for, else in one line what is wrong."""
    if outcome.kind in ("ok", "error") and outcome.text:
        text = outcome.text
        if output.on_terminal():
            from fusionctl.text import safe

            text = safe(text)
        click.echo(text, nl=not text.endswith("\n"))
    for piece in outcome.content:
        if piece.type != "json":
            told = piece.uri or f"{len(piece.data) * 3 // 4:,} bytes"
            notice(f"({piece.type} {piece.mime_type} {told}; --json has it)")
    if outcome.kind not in ("ok", "error"):
        output.complain(" ".join(f"{outcome.kind}: {outcome.text}".split()))
    elif not outcome.ok:
        output.complain("the tool says that it failed")
