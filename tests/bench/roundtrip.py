"""A routed request and its reply: client → router → actor → client with 256 bytes, against libzmq alone and others.

Each side has a process of its own and they take turns in short blocks, so that a noisy moment hits all alike.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import ExitStack

from tests.bench.echo import WINDOW, Side
from tests.bench.report import Report, Row, p50, percentile
from tests.bench.tree import Tree

_SINGLE_BLOCK = 250  # round trips in a block, one at a time
_PIPELINED_BLOCK = 4000
_RATIO = 1.4
_RATE = 15_000
_NAMES = {
    "fusion": "Fusion: client, router, actor",
    "floor": "libzmq alone: client, broker, echo",
    "proxy": "the same with libzmq's proxy, in C, as the broker",
    "xoscar": "xoscar (no broker in between)",
    "ray": "Ray actor call",
}


def run(say: Callable[[str], None], *, blocks: int = 16) -> Report:
    """`blocks` turns of each side, one at a time; half as many pipelined."""
    single: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    with ExitStack() as stack:
        tree = stack.enter_context(Tree())
        sides = [
            _side(stack, "fusion", f"ipc://{tree.paths.router_socket}"),
            _side(stack, "floor"),
            _side(stack, "proxy"),
        ]
        sides += [_side(stack, name) for name in _PEERS if importlib.util.find_spec(name)]
        for side in sides:  # the first block warms up
            side.one_at_a_time(_SINGLE_BLOCK)
        for block in range(blocks):
            say(f"roundtrip: block {block + 1} of {blocks}, one at a time")
            for side in sides:
                single.setdefault(side.name, []).extend(side.one_at_a_time(_SINGLE_BLOCK))
        for block in range(blocks // 2):
            say(f"roundtrip: block {block + 1} of {blocks // 2}, {WINDOW} in flight")
            for side in sides:
                rates.setdefault(side.name, []).append(_PIPELINED_BLOCK / side.pipelined(_PIPELINED_BLOCK))
    return _report(single, rates)


_PEERS = ("xoscar", "ray")


def _side(stack: ExitStack, name: str, argument: str = "") -> Side:
    side = Side(name, argument)
    stack.callback(side.close)
    return side


def _report(single: dict[str, list[float]], rates: dict[str, list[float]]) -> Report:
    report = Report(
        "A routed request and reply, 256 bytes",
        f"One at a time in µs, and requests a second with {WINDOW} in flight (the median of the blocks).",
        {"p50 µs": 0, "p99 µs": 0, "p50 to libzmq's": 2, "requests/s": 0},
    )
    floor = p50(single["floor"])
    for name, samples in single.items():
        report.rows.append(
            Row(
                _NAMES[name],
                {
                    "p50 µs": p50(samples) * 1e6,
                    "p99 µs": percentile(samples, 99) * 1e6,
                    "p50 to libzmq's": p50(samples) / floor,
                    "requests/s": p50(rates[name]),
                },
            )
        )
    fusion = report.rows[0]
    fusion.target = f"p50 ≤ {_RATIO} × libzmq's, ≥ {_RATE:,}/s"
    fusion.met = fusion.values["p50 to libzmq's"] <= _RATIO and fusion.values["requests/s"] >= _RATE
    report.rows += [
        Row(_NAMES[name], note=f"skipped: {name} is not installed") for name in _PEERS if name not in single
    ]
    return report
