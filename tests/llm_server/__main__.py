"""The scripted server as a process of its own, until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import signal

from tests.llm_server import ANTHROPIC, OPENAI, ScriptedServer
from tests.llm_server.shape import Shape

SHAPES: dict[str, Shape] = {"openai": OPENAI, "anthropic": ANTHROPIC}


async def _serve(server: ScriptedServer) -> None:
    server.forget()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with server:
        print(server.url, flush=True)
        await stopped.wait()


async def _main() -> None:
    arguments = argparse.ArgumentParser(description="A scripted LLM API on loopback.")
    arguments.add_argument("--shape", choices=SHAPES, default="openai", help="whose API it speaks")
    arguments.add_argument("--port", type=int, default=0, help="0 takes a free one")
    arguments.add_argument("--mode", default="well", help="how it behaves; or several: the n-th request's")
    arguments.add_argument("--delay", type=float, default=0.0, help="seconds between two words")
    arguments.add_argument("--retry-after", default="0", help="what 429 says")
    given = arguments.parse_args()
    await _serve(
        ScriptedServer(
            given.mode,
            shape=SHAPES[given.shape],
            delay=given.delay,
            retry_after=given.retry_after,
            port=given.port,
        )
    )


if __name__ == "__main__":
    asyncio.run(_main())
