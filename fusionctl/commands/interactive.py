"""`fusionctl interactive`: a conversation that remembers."""

from __future__ import annotations

import sys

import click

from fusionctl.invocation import Invocation


@click.command(epilog='Example: fusionctl interactive -s "You are a patient teacher."')
@click.option("-s", "--system", metavar="TEXT", help="The system prompt.")
@click.option(
    "-m", "--model", metavar="MODEL", default="", help="provider/name instead of the configured one."
)
@click.option("-c", "--continue", "last", is_flag=True, help="Go on with the conversation held last.")
@click.option("--session", metavar="ID", default="", help="Go on with this conversation.")
@click.option("--agent", metavar="NAME", default="", help="Let this agent answer.")
@click.pass_obj
def interactive(
    invocation: Invocation, system: str | None, model: str, last: bool, session: str, agent: str
) -> int:
    """Hold a conversation. Ctrl-C stops an answer, and at the prompt it leaves, as Ctrl-D does.

    Without a terminal each line of standard input is a message; the end of input ends the conversation.
    """
    if last and session:
        raise click.UsageError("--continue and --session name two conversations — give one of them")
    import asyncio

    from fusionctl.conversation import Conversation

    conversation = Conversation(
        invocation, system=system, model=model, last=last, session=session, agent=agent
    )
    typed = sys.stdin is not None and sys.stdin.isatty()
    return asyncio.run(conversation.with_person() if typed else conversation.with_lines())
