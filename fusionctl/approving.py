"""A person's word on what an agent or a command wants to do."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import termios
from collections.abc import Awaitable, Callable
from contextlib import suppress

from fusionctl.text import safe
from fusiond.errors import Denied
from fusiond.protocol.approvals import ApprovalAsk, Verdict

Approve = Callable[[ApprovalAsk], Verdict | Awaitable[Verdict]]
"""Says whether a call may be made. What it raises ends the request."""

_SHOWN = 2000  # characters of a call's input
_WORDS: dict[str, Verdict] = {"o": "once", "once": "once", "y": "once", "yes": "once"}
_WORDS |= {"a": "always", "always": "always", "n": "no", "no": "no"}


class Approvals:
    """The verdicts of one conversation or run: asked for, remembered, handed along with each request.

    `always` holds for all that follows here.
    """

    def __init__(self, approve: Approve | None) -> None:
        self._approve = approve
        self._always: set[str] = set()
        self.given: dict[str, Verdict] = {}

    async def ask(self, ask: ApprovalAsk) -> None:
        """Adds the verdict on a call. Raises Denied where there is nobody to ask."""
        self.given[ask.call] = await self.decide(ask)

    async def decide(self, ask: ApprovalAsk) -> Verdict:
        """The verdict on a call."""
        verdict: Verdict = "always"
        if ask.tool not in self._always:
            if self._approve is None:
                raise Denied(
                    f"{ask.tool} needs a person's approval, and there is nobody to ask",
                    advice=f'pass approve=, or set {ask.key} = "allow"',
                )
            answer = self._approve(ask)
            verdict = await answer if inspect.isawaitable(answer) else answer
        if verdict == "always":
            self._always.add(ask.tool)
        return verdict


def agree(_: ApprovalAsk) -> Verdict:
    """For `--yes`."""
    return "once"


def refuse(ask: ApprovalAsk) -> Verdict:
    """For commands without a person at a terminal: denied at once, naming the ways out."""
    resume = f"; then: fusionctl agents resume {ask.run[:12]}" if ask.run else ""
    raise Denied(
        f"{ask.tool} needs approval, and there is no terminal to ask at",
        advice=f'use --yes, or set {ask.key} = "allow"{resume}',
    )


async def ask_person(ask: ApprovalAsk) -> Verdict:
    """Asks at the terminal; Ctrl-C goes on as such, the end of input means no person."""
    who = f"{ask.agent} wants to call" if ask.agent else "call"
    given = _visible(ask.input)
    sys.stderr.write(f"{who} {_visible(ask.tool)} with {given}\n")
    with suppress(termios.error):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)  # what was typed before is no answer to this
    while True:
        sys.stderr.write("allow? [o]nce, [a]lways, [n]o: ")
        sys.stderr.flush()
        line = await _line(sys.stdin.fileno())
        if not line:
            return refuse(ask)
        if (verdict := _WORDS.get(line.strip().lower())) is not None:
            return verdict


async def _line(terminal: int) -> str:
    """What is typed next, "" at the end of input. Waits in the loop: broken off, nobody goes on reading."""
    loop = asyncio.get_running_loop()
    typed = asyncio.Event()
    loop.add_reader(terminal, typed.set)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(terminal)
    return os.read(terminal, 4096).decode("utf-8", "replace")  # a terminal gives a line at a time


def person() -> Approve:
    """Whom to ask from a command: the person at the terminal, else nobody."""
    streams = (sys.stdin, sys.stderr)
    at_terminal = all(stream is not None and stream.isatty() for stream in streams)
    return ask_person if at_terminal else refuse


def _visible(text: str) -> str:
    """Nothing of it may move the cursor or hide the rest."""
    shown = safe(text.replace("\n", "\\n").replace("\t", "\\t"))
    if len(shown) <= _SHOWN:
        return shown
    half = _SHOWN // 2
    return f"{shown[:half]} … {len(shown) - _SHOWN:,} characters not shown … {shown[-half:]}"
