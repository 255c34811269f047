"""`kill -9` of the embedded model's process while it answers → the next piece of text at the client.

What cannot be avoided is that another process reads the whole context again: the conversation and the answer so far.
So the measure is the time to the first token of that context, asked of a model that is loaded and answers already, in a
process of its own, with nothing of it kept from before.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import msgspec

from fusionctl.client import Client
from fusiond.models import SMOLLM2, locate
from fusiond.protocol.chat import CompletionRequest, Message
from tests.bench.model import missing_model, models_folder
from tests.bench.report import Report, Row, p50, percentile
from tests.bench.tree import Tree, clean_environment

_MARGIN_MS, _RATIO = 20.0, 1.3
_CHUNKS = 10  # come before the kill
_PROMPT = "Tell me a story about a lighthouse keeper who finds a bottle with a letter in it on the beach."
_OPTIONS = {"max_tokens": 40, "temperature": 0}
_QUIET_S = 0.5  # before each measurement


def run(say: Callable[[str], None], *, rounds: int = 20) -> Report:
    """Kills and asks, `rounds` of each, in turn."""
    report = Report(
        "The embedded model killed while it answers, in ms",
        f"From SIGKILL, after {_CHUNKS} pieces, to the next piece at the client; the standby was ready. The floor is a "
        "loaded model's time to the first token of the same context with nothing cached, in a process of its own.",
        {"times": 0, "p50": 1, "max": 1, "p50 to the floor's": 2},
    )
    if missing := missing_model():
        report.rows.append(Row("Fusion: llm.0", note=f"skipped: {missing}"))
        return report
    floor, resumed = _measure(say, rounds)
    limit = _MARGIN_MS + _RATIO * p50(floor)
    for name, samples in (("time to the first token", floor), ("Fusion: kill to the next text", resumed)):
        values = {"times": len(samples), "p50": p50(samples), "max": percentile(samples, 100)}
        report.rows.append(Row(name, values | {"p50 to the floor's": p50(samples) / p50(floor)}))
    report.rows[-1].target = f"p50 ≤ {_MARGIN_MS:g} + {_RATIO} × the floor's = {limit:.1f}"
    report.rows[-1].met = p50(resumed) <= limit
    return report


def _measure(say: Callable[[str], None], rounds: int) -> tuple[list[float], list[float]]:
    floor, resumed = [], []
    config = f'model = "local/{SMOLLM2.name}"\n'
    with Loaded() as loaded, Tree(config, {"FUSION_MODELS": str(models_folder())}) as tree:
        for number in range(rounds):
            say(f"resume: round {number + 1} of {rounds}")
            _until_standby(tree)
            broken = asyncio.run(_break(tree))
            resumed.append(broken.took_ms)
            _until_standby(tree)
            floor.append(loaded.first_token_ms(broken.text))
    return floor, resumed


def _until_standby(tree: Tree) -> None:
    """Until everybody is well, and it is quiet."""
    states = {actor.name: actor.state for actor in tree.settle().actors}
    assert states["llm.standby"] == "standby", f"there is no standby: {states}"
    time.sleep(_QUIET_S)


@dataclass(frozen=True)
class Broken:
    """`text`: what the client had when the stream went on; `took_ms` from the kill to that moment."""

    text: str
    took_ms: float


async def _break(tree: Tree) -> Broken:
    """Kills the model's process under a stream. The pieces still under way do not count: they are of the first try."""
    pid = tree.actor("llm.0").pid
    assert pid is not None
    killed, broken = 0.0, None
    async with Client(tree.home, autostart=False) as client:
        stream = client.stream(_PROMPT, options=_OPTIONS)
        came, text = 0, ""
        async for chunk in stream:
            came += 1
            if came == _CHUNKS:
                killed = time.perf_counter()
                os.kill(pid, signal.SIGKILL)
            if chunk.asked > 1 and broken is None:
                broken = Broken(text, (time.perf_counter() - killed) * 1000)
            text = stream.text
    assert broken is not None, "the answer was over before the kill"
    assert stream.answer.text == text, "the text that came is not the answer"
    return broken


class Loaded:
    """A process with the model loaded and warm, for as long as a `with` block lasts."""

    def __enter__(self) -> Self:
        file = locate(models_folder(), SMOLLM2.name)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.model_asked", SMOLLM2.name, str(file)],
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.first_token_ms("Once")  # it has never answered
        return self

    def first_token_ms(self, prefix: str) -> float:
        """Of an answer that begins with `prefix`."""
        request = CompletionRequest(
            messages=[Message("user", _PROMPT)],
            prefix=prefix,
            options=_OPTIONS | {"max_tokens": 2, "cache_prompt": False},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(request) + b"\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline()) * 1000

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()  # the end of its orders
