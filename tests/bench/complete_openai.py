"""The `openai` package's asynchronous client."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from tests.bench.complete import PROMPT, many
from tests.bench.instant_server import TEXT

openai: Any = importlib.import_module("openai")  # not everywhere installed


class OpenAICompletions:
    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._client: Any = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)

    def pipelined(self, count: int) -> float:
        return self._runner.run(many(count, self._ask))

    async def _ask(self) -> None:
        reply = await self._client.chat.completions.create(
            model="echo", messages=[{"role": "user", "content": PROMPT}]
        )
        assert reply.choices[0].message.content == TEXT

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()
