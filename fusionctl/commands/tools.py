"""`fusionctl tools`: what agents can use, and calls by hand."""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec

from fusionctl import output
from fusionctl.commands.asked import ask_client, exit_code, outcome_document, put_outcome
from fusionctl.invocation import Invocation

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")
_YES = click.option("--yes", is_flag=True, help="Do not ask for approval.")


@click.group(epilog="Example: fusionctl tools list")
def tools() -> None:
    """List the tools that agents can use, and call them by hand."""


@tools.command("list", epilog="Example: fusionctl tools list --json")
@_JSON
@click.pass_obj
def list_(invocation: Invocation, as_json: bool) -> None:
    """List every tool, those of MCP servers too, and what is wrong with some."""
    found = ask_client(invocation, lambda client: client.tools())
    if as_json:
        keys = ("name", "description", "parameters", "source", "approval", "problem")
        output.put_json([_without_empty(msgspec.to_builtins(tool), keys) for tool in found])
    else:
        from fusionctl import render_crew

        output.put(render_crew.tools(found, output.painter()))


@tools.command(epilog="Example: fusionctl tools show shell")
@click.argument("name")
@_JSON
@click.pass_obj
def show(invocation: Invocation, name: str, as_json: bool) -> None:
    """Show the tool NAME: its arguments, its limits, and what keeps it in bounds."""
    found = ask_client(invocation, lambda client: client.tool(name))
    if as_json:
        output.put_json(_without_empty(msgspec.to_builtins(found), None))
    else:
        from fusionctl import render_crew

        output.put(render_crew.tool(found, output.painter()))


@tools.command(epilog="""Example: fusionctl tools call read_file '{"path": "notes.txt"}'""")
@click.argument("name")
@click.argument("arguments", metavar="JSON", default="{}")
@_YES
@_JSON
@click.pass_obj
def call(invocation: Invocation, name: str, arguments: str, yes: bool, as_json: bool) -> int:
    """Call the tool NAME with a JSON object of arguments; `-` reads them from standard input."""
    given = read_arguments(arguments)
    return call_tool(invocation, name, given, yes, as_json)


def call_tool(invocation: Invocation, name: str, given: dict[str, Any], yes: bool, as_json: bool) -> int:
    """Calls a tool by hand, and shows what it gives; returns the exit code."""
    from fusionctl.approving import agree, person

    approve = agree if yes else person()
    outcome = ask_client(invocation, lambda client: client.call_tool(name, given, approve=approve))
    if as_json:
        output.put_json(outcome_document(outcome))
    else:
        put_outcome(outcome)
    return exit_code(outcome)


def read_arguments(text: str) -> dict[str, Any]:
    """The JSON object in `text`, or on standard input for `-`. Raises UsageError for anything else."""
    if text == "-":
        text = sys.stdin.buffer.read().decode("utf-8", "replace") if sys.stdin is not None else ""
    try:
        given = msgspec.json.decode(text.strip() or "{}")
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise click.UsageError(
            f"the arguments are no JSON: {error} — give an object: '{{\"key\": …}}'"
        ) from None
    if not isinstance(given, dict):
        raise click.UsageError('the arguments must be a JSON object — for example \'{"path": "x"}\'')
    return given


def _without_empty(document: dict[str, Any], keys: tuple[str, ...] | None) -> dict[str, Any]:
    kept = document if keys is None else {key: document[key] for key in keys}
    return {key: value for key, value in kept.items() if key != "problem" or value}
