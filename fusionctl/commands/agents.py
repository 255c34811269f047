"""`fusionctl agents`: agents, and runs of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from fusionctl import output
from fusionctl.commands.asked import ask_client
from fusionctl.invocation import Invocation, notice

if TYPE_CHECKING:
    from fusionctl.client import Client
    from fusiond.protocol.agents import RunEvent, RunReply

_LIMITS = ("step_limit", "token_limit", "time_limit", "loop_detected")
_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that begins a run."""
    options = [
        click.option(
            "-m", "--model", metavar="MODEL", default="", help="provider/name, for all agents of it."
        ),
        click.option(
            "-s", "--system", metavar="TEXT", help="The system prompt, in the place of the agent's."
        ),
        click.option(
            *("-o", "--option", "options"),
            nargs=2,
            multiple=True,
            metavar="KEY VALUE",
            help="For the provider; may be repeated.",
        ),
        click.option(
            "--max-steps", type=click.IntRange(min=1), default=None, help="End after so many steps."
        ),
        *_WATCH,
    ]
    for option in reversed(options):
        command = option(command)
    return command


_WATCH = [
    click.option("--yes", is_flag=True, help="Approve every call."),
    click.option("--trace", is_flag=True, help="Show each thought, action and observation."),
    _JSON,
]


def _watch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_WATCH):
        command = option(command)
    return command


@click.group(epilog='Example: fusionctl agents run file_ops "What is in notes.txt?"')
def agents() -> None:
    """List agents, have them do tasks, look into their runs."""


@agents.command("list", epilog="Example: fusionctl agents list --json")
@_JSON
@click.pass_obj
def list_(invocation: Invocation, as_json: bool) -> None:
    """List the agents, and what is wrong with some."""
    found = ask_client(invocation, lambda client: client.agents())
    if as_json:
        documents = [msgspec.to_builtins(agent) for agent in found]
        output.put_json([{k: v for k, v in one.items() if k != "problem" or v} for one in documents])
    else:
        from fusionctl import render_crew

        output.put(render_crew.agents(found, output.painter()))


@agents.command(epilog="Example: fusionctl agents show general")
@click.argument("name")
@_JSON
@click.pass_obj
def show(invocation: Invocation, name: str, as_json: bool) -> None:
    """Show the agent NAME."""
    found = ask_client(invocation, lambda client: client.agent(name))
    if as_json:
        document: dict[str, Any] = msgspec.to_builtins(found)
        output.put_json({key: value for key, value in document.items() if key != "problem" or value})
    else:
        from fusionctl import render_crew

        output.put(render_crew.agent(found, output.painter()))


@agents.command(epilog='Example: fusionctl agents run shell "How full is the disk?" --trace')
@click.argument("name")
@click.argument("task", required=False)
@_run_options
@click.pass_obj
def run(invocation: Invocation, /, name: str, task: str | None, **options: Any) -> int:
    """Have the agent NAME do TASK. What is piped in is added to it."""
    return _begin(invocation, name, task, options)


@agents.command(epilog='Example: fusionctl agents route "How full is the disk?"')
@click.argument("task", required=False)
@_run_options
@click.pass_obj
def route(invocation: Invocation, /, task: str | None, **options: Any) -> int:
    """Have the one agent do TASK that a model finds best for it."""
    return _begin(invocation, "router", task, options)


@agents.command(epilog='Example: fusionctl agents orchestrate "Compare a.txt with https://example.com"')
@click.argument("task", required=False)
@_run_options
@click.pass_obj
def orchestrate(invocation: Invocation, /, task: str | None, **options: Any) -> int:
    """Have several agents do the parts of TASK, and combine what they find."""
    return _begin(invocation, "supervisor", task, options)


@agents.command(epilog="Example: fusionctl agents resume 3f2a")
@click.argument("run")
@_watch_options
@click.pass_obj
def resume(invocation: Invocation, run: str, yes: bool, trace: bool, as_json: bool) -> int:
    """Go on with RUN from its last step: one that was interrupted, failed, or waits for approval."""

    async def go(client: Client, watch: dict[str, Any]) -> RunReply:
        return await client.resume(run, approve_all=yes, **watch)

    return _watched(invocation, go, trace, as_json)


@agents.command(epilog="Example: fusionctl agents runs --json")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@_JSON
@click.pass_obj
def runs(invocation: Invocation, limit: int, as_json: bool) -> None:
    """List the newest runs."""
    found = ask_client(invocation, lambda client: client.runs(limit))
    if as_json:
        output.put_json([_summary(msgspec.to_builtins(one)) for one in found])
    else:
        from fusionctl import render_crew

        output.put(render_crew.runs(found, datetime.now(UTC), output.painter()))


@agents.command(epilog="Example: fusionctl agents trace 3f2a")
@click.argument("run")
@_JSON
@click.pass_obj
def trace(invocation: Invocation, run: str, as_json: bool) -> None:
    """Show each thought, action and observation of RUN."""
    found = ask_client(invocation, lambda client: client.run_detail(run))
    if as_json:
        steps = [_step(msgspec.to_builtins(step)) for step in found.trace]
        output.put_json(_summary(msgspec.to_builtins(found)) | {"steps": steps})
    else:
        from fusionctl import render_crew

        output.put(render_crew.trace(found, output.painter()))


def _begin(invocation: Invocation, agent: str, task: str | None, options: dict[str, Any]) -> int:
    from fusionctl.commands.chat import join, option_value, piped

    whole = join(task, piped())
    if not whole.strip():
        raise click.UsageError('there is no task — give one: fusionctl agents run NAME "…", or pipe it in')
    yes, trace, as_json = options.pop("yes"), options.pop("trace"), options.pop("as_json")
    given = {key: option_value(value) for key, value in options.pop("options")}
    max_steps = options.pop("max_steps") or 0

    name = os.urandom(16).hex()  # asked again, it is the same run

    async def go(client: Client, watch: dict[str, Any]) -> RunReply:
        return await client.run(
            agent, whole, run=name, options=given, max_steps=max_steps, approve_all=yes, **options, **watch
        )

    return _watched(invocation, go, trace, as_json)


def _watched(
    invocation: Invocation,
    go: Callable[[Client, dict[str, Any]], Awaitable[RunReply]],
    trace: bool,
    as_json: bool,
) -> int:
    """Runs it, shows what happens and how it ends; returns the exit code."""
    from fusionctl.approving import person
    from fusionctl.asking import with_model

    watch: dict[str, Any] = {"approve": person(), "on_event": _watcher(trace, as_json)}
    reply = ask_client(invocation, lambda client: with_model(invocation.home, lambda: go(client, watch)))
    if as_json:
        usage = msgspec.to_builtins(reply.usage)
        document = {"run": reply.run, "answer": reply.answer, "steps": reply.steps}
        output.put_json(document | {"finish_reason": reply.finish_reason, "usage": usage})
    elif reply.answer:
        text = reply.answer
        if output.on_terminal():
            from fusionctl.text import safe

            text = safe(text)
        click.echo(text, nl=not text.endswith("\n"))
    if reply.finish_reason in _LIMITS:
        output.complain(f"{_LIMIT_WORDS[reply.finish_reason]} — see: fusionctl agents trace {reply.run[:12]}")
        return 5
    return 0


_LIMIT_WORDS = {
    "step_limit": "the run came to its limit of steps (--max-steps, agents.max_steps)",
    "token_limit": "the run came to its limit of tokens (agents.max_tokens)",
    "time_limit": "the run came to its limit of time (agents.timeout_s)",
    "loop_detected": "the agent went round in circles: the same call for the fourth time",
}


def _watcher(trace: bool, as_json: bool) -> Callable[[RunEvent], None] | None:
    """Who is told of what happens in a run."""
    if trace and as_json:
        return output.put_json
    from fusionctl import render_crew

    if trace:
        paint = output.painter_for(sys.stderr)
        return lambda event: notice("\n".join(render_crew.event(event, paint)))
    if not as_json and sys.stderr is not None and sys.stderr.isatty():
        paint = output.painter_for(sys.stderr)

        def tell(event: RunEvent) -> None:
            if line := render_crew.news(event):
                notice(paint(line, "faint"))

        return tell
    return None


def _summary(document: dict[str, Any]) -> dict[str, Any]:
    keys = ("id", "agent", "state", "task", "steps", "answer")
    return {key: document[key] for key in keys}


def _step(document: dict[str, Any]) -> dict[str, Any]:
    action = None
    if document["tool"]:
        given = document["input"]
        with suppress(msgspec.DecodeError):  # an agent's task
            given = msgspec.json.decode(given)
        action = {"tool": document["tool"], "input": given}
    return {
        "n": document["n"],
        "thought": document["thought"],
        "action": action,
        "observation": document["observation"],
        "ms": round(document["think_ms"] + document["act_ms"], 3),
    }
