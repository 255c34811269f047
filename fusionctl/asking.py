"""Asks one question and shows its answer; fetches the embedded model where it is missing."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fusionctl import output
from fusionctl.answer import Answer, ChatStream
from fusionctl.client import Client
from fusionctl.paper import Paper
from fusionctl.text import safe
from fusiond.errors import ModelMissing

T = TypeVar("T")


async def with_model(home: str | None, ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` gives; where the embedded model is missing, it is fetched and `ask` asks once more."""
    try:
        return await ask()
    except ModelMissing:
        from fusionctl.fetching import fetch_embedded_model

        await fetch_embedded_model(home)
        return await ask()


class Question:
    """A question under way. `stream` is what is being asked now, None before."""

    def __init__(self, client: Client, paper: Paper, home: str | None) -> None:
        self._client = client
        self._paper = paper
        self._home = home
        self.stream: ChatStream | None = None

    async def ask(self, prompt: str, **request: Any) -> Answer:
        """The answer, written to the paper on the way. `request` as for `Client.stream`."""
        return await with_model(self._home, lambda: self._once(prompt, request))

    def _note(self, note: str) -> None:
        """What an agent does, for a person who watches."""
        if sys.stderr is not None and sys.stderr.isatty():
            self._paper.notice(output.painter_for(sys.stderr)(safe(note), "faint"))

    async def _once(self, prompt: str, request: dict[str, Any]) -> Answer:
        turn = self.stream.turn if self.stream is not None else ""
        self.stream = stream = self._client.stream(prompt, turn=turn, on_note=self._note, **request)
        try:
            async for chunk in stream:
                self._paper.write(chunk)
        except BaseException:
            self._paper.tear()
            raise
        self._paper.end()
        if left_out := stream.answer.left_out:
            self._paper.notice(
                f"{left_out} earlier messages do not fit into the model's context and were left out (they are kept)"
            )
        return stream.answer
