"""Whole completions a second, many in flight, against the `openai` package and what there is below Fusion.

One server answers at once; the sides take turns in short blocks, each in a process of its own.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import ExitStack

from tests.bench.complete import IN_FLIGHT
from tests.bench.echo import Side
from tests.bench.instant_server import Server
from tests.bench.report import Report, Row, p50

_RATE = 2500
_RATIO = 6
_WARM_UP = 500
_BLOCKS = {"fusion": 3000, "openai": 600, "provider": 3000, "floor": 10_000}
"""Requests in a block of each side: about a second."""
_NAMES = {
    "fusion": "Fusion: actor, router, llm",
    "openai": "openai's AsyncOpenAI",
    "provider": "Fusion's provider alone, in the asking process",
    "floor": "the server's ceiling: fixed bytes on open connections",
}


def run(say: Callable[[str], None], *, blocks: int = 8) -> Report:
    """`blocks` turns of each side."""
    rates: dict[str, list[float]] = {}
    with ExitStack() as stack:
        server = stack.enter_context(Server())
        names = [name for name in _NAMES if name != "openai" or importlib.util.find_spec("openai")]
        sides = [Side(name, server.url, module="tests.bench.complete") for name in names]
        for side in sides:
            stack.callback(side.close)
            side.pipelined(_WARM_UP)
        for block in range(blocks):
            say(f"throughput: block {block + 1} of {blocks}")
            for side in sides:
                count = _BLOCKS[side.name]
                rates.setdefault(side.name, []).append(count / side.pipelined(count))
    return _report(rates)


def _report(rates: dict[str, list[float]]) -> Report:
    report = Report(
        f"Whole completions a second, {IN_FLIGHT} in flight",
        "One llm actor, a server that answers at once, the median of the blocks. The asker, the router and the "
        "llm actor have a process each; the asker is an actor, as the agent is; neither agent nor store take part.",
        {"requests/s": 0, "to openai's": 2},
    )
    for name, samples in rates.items():
        row = Row(_NAMES[name], {"requests/s": p50(samples)})
        if "openai" in rates:
            row.values["to openai's"] = p50(samples) / p50(rates["openai"])
        report.rows.append(row)
    fusion = report.rows[0]
    fusion.target = f"≥ {_RATE:,}/s, ≥ {_RATIO} × openai's"
    fusion.met = fusion.values["requests/s"] >= _RATE and fusion.values.get("to openai's", _RATIO) >= _RATIO
    if "openai" not in rates:
        report.rows.append(Row(_NAMES["openai"], note="skipped: openai is not installed"))
    return report
