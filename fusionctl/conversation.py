"""A conversation at the keyboard, or line by line from a pipe."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from fusionctl import homes, output
from fusionctl.approving import Approvals, person
from fusionctl.asking import Question
from fusionctl.client import Client
from fusionctl.invocation import Invocation, notice
from fusionctl.link import off_loop
from fusionctl.paper import Live, Paper, Whole
from fusiond.errors import FusionError
from fusiond.paths import prepare

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

GREETING = "Ctrl-C stops an answer; at the prompt, Ctrl-C or Ctrl-D leaves. /help says more."
HELP = """\
/help     this
/session  the conversation's id, to come back to it: fusionctl interactive --session ID
/exit     leave, as Ctrl-D does
Everything else is a message. Alt-Enter begins a new line in it."""


class Conversation:
    """Messages and answers in one session, which the first answer makes known."""

    def __init__(
        self, invocation: Invocation, *, system: str | None, model: str, last: bool, session: str, agent: str
    ) -> None:
        self._invocation = invocation
        self._request: dict[str, Any] = {"system": system, "model": model, "agent": agent}
        self._approvals = Approvals(person())
        self._session = session
        self._last = last
        self._paper: Paper = Live() if output.on_terminal() else Whole()

    async def with_person(self) -> int:
        """At the keyboard; returns the exit code."""
        notice(GREETING)
        async with self._client() as client:
            typing = self._typing()
            while True:
                try:
                    message = await typing.prompt_async("> ")
                except KeyboardInterrupt:
                    return 130
                except EOFError:
                    return 0
                if message.strip() in ("/exit", "/quit"):
                    return 0
                if message.strip() and not self._command(message.strip()):
                    await self._answer(client, message)

    async def with_lines(self) -> int:
        """From a pipe: each line a message, until the end of input. The first error ends it."""
        async with self._client() as client, aclosing(_lines()) as lines:
            async for line in lines:
                if line.strip():
                    await self._ask(client, line)
        return 0

    async def _answer(self, client: Client, message: str) -> None:
        """Shows the answer to what a person typed; Ctrl-C stops it, an error is shown, and the person goes
        on.
        """
        loop = asyncio.get_running_loop()
        answering = asyncio.ensure_future(self._ask(client, message))
        loop.add_signal_handler(signal.SIGINT, answering.cancel)
        try:
            await answering
        except asyncio.CancelledError:
            if not answering.cancelled():
                raise
            notice("(stopped)")
        except FusionError as error:
            output.complain(str(error))
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    async def _ask(self, client: Client, message: str) -> None:
        question = Question(client, self._paper, self._invocation.home)
        try:
            await question.ask(
                message,
                session=self._session,
                last=self._last,
                approve=self._approvals.decide,
                **self._request,
            )
        finally:
            if question.stream is not None and question.stream.session:
                self._session, self._last = question.stream.session, False
                self._request["system"] = None  # it is the session's from now on

    def _command(self, message: str) -> bool:
        """Obeys a line that is a command; returns whether it was one."""
        if message == "/help":
            notice(HELP)
        elif message == "/session":
            notice(self._session or "it begins with the first message")
        else:
            return False
        return True

    def _client(self) -> Client:
        invocation = self._invocation
        return Client(invocation.home, autostart=invocation.autostart, notice=self._paper.notice)

    def _typing(self) -> PromptSession[str]:
        """A line to type in, with the history of all conversations of this home."""
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import FileHistory
        from prompt_toolkit.key_binding import KeyBindings
        from prompt_toolkit.output import create_output
        from prompt_toolkit.output.vt100 import Vt100_Output

        paths = homes.candidates(self._invocation.home)[0]
        prepare(paths)
        file = paths.state / "history"
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        keys = KeyBindings()
        keys.add("escape", "enter")(lambda event: event.current_buffer.insert_text("\n"))
        screen = create_output(sys.stdout if sys.stdout.isatty() else sys.stderr)
        if isinstance(screen, Vt100_Output):
            screen.enable_cpr = False  # where the cursor is matters to menus only; some terminals do not say
        return PromptSession(history=FileHistory(str(file)), key_bindings=keys, output=screen)


async def _lines() -> AsyncGenerator[str, None]:
    """The lines of standard input as they come."""
    source = None if sys.stdin is None else sys.stdin.buffer
    while source is not None and (line := await off_loop(source.readline)):
        yield line.decode("utf-8", "replace").rstrip("\r\n")
