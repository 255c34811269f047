"""What a person writes instead of a batch: a loop over a file that keeps nothing but the answers in memory.

`python -m tests.bench.batch_loop aiohttp|openai FILE URL CONCURRENCY` prints the seconds from the first request to the
last answer.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any


async def _each(prompts: list[str], concurrency: int, ask: Callable[[str], Awaitable[str]]) -> float:
    answers: dict[int, str] = {}
    left = iter(enumerate(prompts))

    async def work() -> None:
        for number, prompt in left:
            answers[number] = await ask(prompt)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    took = time.perf_counter() - began
    assert len(answers) == len(prompts)
    return took


async def _aiohttp(prompts: list[str], url: str, concurrency: int) -> float:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:

        async def ask(prompt: str) -> str:
            body = {"model": "echo", "messages": [{"role": "user", "content": prompt}]}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                return str((await response.json())["choices"][0]["message"]["content"])

        return await _each(prompts, concurrency, ask)


async def _openai(prompts: list[str], url: str, concurrency: int) -> float:
    openai: Any = importlib.import_module("openai")  # no dependency of ours

    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

        async def ask(prompt: str) -> str:
            reply = await client.chat.completions.create(
                model="echo", messages=[{"role": "user", "content": prompt}]
            )
            return str(reply.choices[0].message.content)

        return await _each(prompts, concurrency, ask)


def main() -> None:
    kind, file, url, concurrency = sys.argv[1:]
    prompts = Path(file).read_text().splitlines()
    loop = _aiohttp if kind == "aiohttp" else _openai
    print(asyncio.run(loop(prompts, url, int(concurrency))))


if __name__ == "__main__":
    main()
