"""The embedded model, loaded in this process. Arguments: its name and its file.

Each line of standard input is a CompletionRequest as JSON; the answer is a line: the seconds to its first token.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from fusiond.protocol.chat import CompletionChunk, CompletionRequest
from fusiond.providers.local import LocalModel


async def _first_token_s(model: LocalModel, request: CompletionRequest) -> float:
    came: list[float] = []

    def emit(_: CompletionChunk) -> None:
        came.append(time.perf_counter())

    began = time.perf_counter()
    await model.complete(request, emit)
    return came[0] - began


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="fusion-bench-") as folder, asyncio.Runner() as runner:
        model = runner.run(_loaded(Path(folder)))
        for line in sys.stdin:
            request = msgspec.json.decode(line, type=CompletionRequest)
            print(runner.run(_first_token_s(model, request)), flush=True)
    os._exit(0)  # llama.cpp's own end is not what is measured


async def _loaded(folder: Path) -> LocalModel:
    model = LocalModel(sys.argv[1], Path(sys.argv[2]), folder)
    model.load()
    return model


if __name__ == "__main__":
    main()
