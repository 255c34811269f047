"""`fusionctl chat`: one question, its answer streamed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from fusionctl import output
from fusionctl.invocation import Invocation


@click.command(epilog='Example: git diff | fusionctl chat "Write a commit message for this" -s "Be brief."')
@click.argument("prompt", required=False)
@click.option("-s", "--system", metavar="TEXT", help="The system prompt.")
@click.option(
    "-m", "--model", metavar="MODEL", default="", help="provider/name instead of the configured one."
)
@click.option("-c", "--continue", "last", is_flag=True, help="Go on with the conversation held last.")
@click.option("--session", metavar="ID", default="", help="Go on with this conversation.")
@click.option("--agent", metavar="NAME", default="", help="Let this agent answer.")
@click.option(
    "-o",
    "--option",
    "options",
    nargs=2,
    multiple=True,
    metavar="KEY VALUE",
    help="For the provider: temperature, max_tokens, …; may be repeated.",
)
@click.option("--schema", metavar="FILE|JSON", help="A JSON schema that the answer must satisfy.")
@click.option("--yes", is_flag=True, help="Approve every call of the agent.")
@click.option("--no-stream", is_flag=True, help="Show the answer when it is whole.")
@click.option("--json", "as_json", is_flag=True, help="The answer and its figures as JSON.")
@click.pass_obj
def chat(
    invocation: Invocation,
    prompt: str | None,
    system: str | None,
    model: str,
    last: bool,
    session: str,
    agent: str,
    options: tuple[tuple[str, str], ...],
    schema: str | None,
    yes: bool,
    no_stream: bool,
    as_json: bool,
) -> None:
    """Ask one question. What is piped in is added to PROMPT, or is the prompt.

    Ctrl-C takes the question back, at the provider too.
    """
    if last and session:
        raise click.UsageError("--continue and --session name two conversations — give one of them")
    request: dict[str, Any] = {
        "system": system,
        "model": model,
        "last": last,
        "session": session,
        "agent": agent,
        "options": {key: option_value(value) for key, value in options},
        "schema": None if schema is None else read_schema(schema),
        "approve_all": yes,
    }
    question = join(prompt, piped())
    if not question.strip():
        raise click.UsageError('there is no prompt — give one: fusionctl chat "…", or pipe it in')
    import asyncio

    asyncio.run(_ask(invocation, question, request, no_stream, as_json))


async def _ask(
    invocation: Invocation, question: str, request: dict[str, Any], no_stream: bool, as_json: bool
) -> None:
    import dataclasses

    from fusionctl.approving import person
    from fusionctl.asking import Question
    from fusionctl.client import Client
    from fusionctl.paper import Live, Whole

    request["approve"] = person()
    live = output.on_terminal() and not no_stream and not as_json
    paper = Live() if live else Whole(silent=as_json)
    async with Client(invocation.home, autostart=invocation.autostart, notice=paper.notice) as client:
        answer = await Question(client, paper, invocation.home).ask(question, **request)
    if as_json:
        document = dataclasses.asdict(answer) | {"usage": msgspec.to_builtins(answer.usage)}
        output.put_json({key: value for key, value in document.items() if key != "left_out" or value})


def join(prompt: str | None, piped: str) -> str:
    """The prompt first, then what was piped in."""
    return "\n\n".join(part for part in (valid(prompt or ""), piped.rstrip("\n")) if part)


def valid(text: str) -> str:
    """`text` as Unicode: bytes of a command line that are no UTF-8 become replacement characters."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def piped() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def option_value(text: str) -> Any:
    """The value as JSON says it (0.2, true, ["\\n"]), else the text itself."""
    try:
        value = msgspec.json.decode(text)
        msgspec.msgpack.encode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return text
    except OverflowError:
        raise click.UsageError(f"{text} is too large a number") from None
    return value


def read_schema(given: str) -> dict[str, Any]:
    """The JSON schema, written out or in a file."""
    text = given
    if not given.lstrip().startswith("{"):
        try:
            text = Path(given).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(
                f"--schema: {given} cannot be read: {error} — give a file or JSON"
            ) from None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except RecursionError:
        raise click.UsageError("--schema is nested too deeply") from None
    except msgspec.DecodeError as error:
        raise click.UsageError(f"--schema is no JSON object: {error}") from None
