"""`fusionctl mcp`: the MCP servers and what they offer."""

from __future__ import annotations

import click
import msgspec

from fusionctl import output
from fusionctl.commands.asked import ask_client, exit_code, outcome_document, put_outcome
from fusionctl.commands.tools import call_tool, read_arguments
from fusionctl.invocation import Invocation
from fusiond.protocol.tools import MCP

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group(epilog="Example: fusionctl mcp list")
def mcp() -> None:
    """List MCP servers and their tools, and call these by hand."""


@mcp.command("list", epilog="Example: fusionctl mcp list --json")
@_JSON
@click.pass_obj
def list_(invocation: Invocation, as_json: bool) -> None:
    """List the MCP servers."""
    found = ask_client(invocation, lambda client: client.mcp_servers())
    if as_json:
        output.put_json(found)
    else:
        from fusionctl import render_crew

        output.put(render_crew.servers(found, output.painter()))


@mcp.command(epilog="Example: fusionctl mcp show fusion")
@click.argument("server")
@click.option("--resource", metavar="URI", help="Read this resource.")
@click.option("--prompt", metavar="NAME", help="Fill in this prompt; its arguments follow as JSON.")
@click.argument("arguments", metavar="[JSON]", default="{}")
@_JSON
@click.pass_obj
def show(
    invocation: Invocation,
    server: str,
    resource: str | None,
    prompt: str | None,
    arguments: str,
    as_json: bool,
) -> int:
    """Show what SERVER offers, or read one of its resources or prompts."""
    if resource and prompt:
        raise click.UsageError("--resource and --prompt name two things — give one of them")
    if resource or prompt:
        given = {key: str(value) for key, value in read_arguments(arguments).items()}
        outcome = ask_client(
            invocation,
            lambda client: (
                client.mcp_resource(server, resource)
                if resource
                else client.mcp_prompt(server, prompt or "", given)
            ),
        )
        if as_json:
            output.put_json(outcome_document(outcome))
        else:
            put_outcome(outcome)
        return exit_code(outcome)
    found = ask_client(invocation, lambda client: client.mcp_server(server))
    if as_json:
        output.put_json(found)
    else:
        from fusionctl import render_crew

        output.put(render_crew.server(found, output.painter()))
    return 0


@mcp.command(epilog="Example: fusionctl mcp tools fusion")
@click.argument("server")
@_JSON
@click.pass_obj
def tools(invocation: Invocation, server: str, as_json: bool) -> None:
    """List the tools of SERVER."""
    found = ask_client(invocation, lambda client: client.mcp_tools(server))
    if as_json:
        keys = ("name", "description", "parameters", "source", "approval")
        output.put_json([{key: msgspec.to_builtins(tool)[key] for key in keys} for tool in found])
    else:
        from fusionctl import render_crew

        output.put(render_crew.tools(found, output.painter()))


@mcp.command(epilog="""Example: fusionctl mcp call fusion time '{"zone": "Europe/Paris"}'""")
@click.argument("server")
@click.argument("tool")
@click.argument("arguments", metavar="JSON", default="{}")
@click.option("--yes", is_flag=True, help="Do not ask for approval.")
@_JSON
@click.pass_obj
def call(invocation: Invocation, server: str, tool: str, arguments: str, yes: bool, as_json: bool) -> int:
    """Call TOOL of SERVER with a JSON object of arguments; `-` reads them from standard input."""
    return call_tool(invocation, f"{MCP}{server}/{tool}", read_arguments(arguments), yes, as_json)
