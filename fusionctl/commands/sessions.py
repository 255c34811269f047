"""`fusionctl sessions`: the conversations that are recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import click

from fusionctl import output, render
from fusionctl.invocation import Invocation

if TYPE_CHECKING:
    from fusionctl.client import Client
    from fusiond.protocol.sessions import SessionSummary

T = TypeVar("T")

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group(epilog="Example: fusionctl sessions search invoice")
def sessions() -> None:
    """List, read, search, delete conversations."""


@sessions.command("list", epilog="Example: fusionctl sessions list --limit 5")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@_JSON
@click.pass_obj
def list_(invocation: Invocation, limit: int, as_json: bool) -> None:
    """List the newest conversations."""
    _show_list(_with_client(invocation, lambda client: client.sessions(limit)), as_json)


@sessions.command(epilog="Example: fusionctl sessions search invoice march")
@click.argument("words", nargs=-1, required=True)
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@_JSON
@click.pass_obj
def search(invocation: Invocation, words: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List the conversations in which every one of WORDS occurs."""
    _show_list(
        _with_client(invocation, lambda client: client.search_sessions(" ".join(words), limit)), as_json
    )


@sessions.command(epilog="Example: fusionctl sessions show 0192f3")
@click.argument("id")
@_JSON
@click.pass_obj
def show(invocation: Invocation, id: str, as_json: bool) -> None:
    """Show the conversation ID; the beginning of an id is enough."""
    session = _with_client(invocation, lambda client: client.session(id))
    if as_json:
        output.put_json(session)
    else:
        output.put(render.conversation(session, output.painter()))


@sessions.command(epilog="Example: fusionctl sessions export 0192f3 --format markdown > talk.md")
@click.argument("id")
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "markdown"]),
    default="json",
    show_default=True,
    help="As what.",
)
@click.pass_obj
def export(invocation: Invocation, id: str, form: str) -> None:
    """Write the conversation ID to standard output, whole, for another program or for keeping."""
    session = _with_client(invocation, lambda client: client.session(id))
    if form == "json":
        output.put_json(session)
    else:
        output.put(render.markdown(session))


@sessions.command(epilog="Example: fusionctl sessions delete 0192f3")
@click.argument("id")
@click.pass_obj
def delete(invocation: Invocation, id: str) -> None:
    """Delete the conversation ID for good."""
    gone = _with_client(invocation, lambda client: client.delete_session(id))
    click.echo(f"deleted: {gone.id}")


def _show_list(found: list[SessionSummary], as_json: bool) -> None:
    if as_json:
        output.put_json(found)
    else:
        output.put(render.sessions(found, datetime.now(UTC), output.painter()))


def _with_client(invocation: Invocation, call: Callable[[Client], Awaitable[T]]) -> T:
    """What `call` gives, asked in an event loop of its own."""
    import asyncio

    from fusionctl.client import Client

    async def run() -> T:
        async with Client(invocation.home, autostart=invocation.autostart) as client:
            return await call(client)

    return asyncio.run(run())
