"""Asks one question and shows its answer; fetches the embedded model where it is missing."""

from __future__ import annotations

from typing import Any

from fusionctl.answer import Answer, ChatStream
from fusionctl.client import Client
from fusionctl.paper import Paper
from fusiond.errors import ModelMissing


class Question:
    """A question under way. `stream` is what is being asked now, None before."""

    def __init__(self, client: Client, paper: Paper, home: str | None) -> None:
        self._client = client
        self._paper = paper
        self._home = home
        self.stream: ChatStream | None = None

    async def ask(self, prompt: str, **request: Any) -> Answer:
        """The answer, written to the paper on the way. `request` as for `Client.stream`."""
        try:
            return await self._once(prompt, request)
        except ModelMissing:
            from fusionctl.fetching import fetch_embedded_model

            await fetch_embedded_model(self._home)
            return await self._once(prompt, request)

    async def _once(self, prompt: str, request: dict[str, Any]) -> Answer:
        turn = self.stream.turn if self.stream is not None else ""
        self.stream = stream = self._client.stream(prompt, turn=turn, **request)
        try:
            async for chunk in stream:
                self._paper.write(chunk)
        except BaseException:
            self._paper.tear()
            raise
        self._paper.end()
        return stream.answer
