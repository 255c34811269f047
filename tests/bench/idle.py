"""What the tree costs while nothing happens, without the embedded model: memory, and processor time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.bench.report import Report, Row
from tests.bench.tree import Tree

_PSS_MB = 90.0
_CPU_PERCENT = 0.2  # of a core, each process
_SETTLE_S = 3.0
"""After the start, before the window: the fork server's late imports and the first spare children."""


def run(say: Callable[[str], None], *, window_s: float = 60) -> Report:
    """Looks at every process of the tree at the beginning and at the end of a window in which nobody asks anything."""
    with Tree() as tree:
        time.sleep(_SETTLE_S)
        processes = tree.processes()
        before = {process.pid: _cpu_seconds(process.pid) for process in processes}
        began = time.monotonic()
        say(f"idle: {window_s:g} s of silence")
        time.sleep(window_s)  # part of the measurement
        after = {pid: _cpu_seconds(pid) for pid in before}
        took = time.monotonic() - began
        rows = [
            Row(
                _name(process),
                {
                    "PSS MB": _pss_mb(process.pid),
                    "CPU %": 100 * (after[process.pid] - before[process.pid]) / took,
                },
            )
            for process in processes
        ]
    return _report(rows, window_s)


def _cpu_seconds(pid: int) -> float:
    """Processor time of all its threads, in nanosecond steps; those of `stat` are 10 ms."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def _pss_mb(pid: int) -> float:
    """Memory with shared pages counted in parts: the sum over the tree is what the tree takes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("the kernel does not say PSS")


def _name(process: psutil.Process) -> str:
    """The actor's name, as the process shows it."""
    title = " ".join(process.cmdline()).removeprefix("fusiond: ")
    return title.split(" /")[0].strip()


def _report(rows: list[Row], window_s: float) -> Report:
    report = Report(
        "The idle tree without the embedded model",
        f"PSS of every process, and processor time over {window_s:g} s in percent of a core.",
        {"PSS MB": 1, "CPU %": 3},
    )
    for row in rows:
        row.target = f"CPU ≤ {_CPU_PERCENT:g} %"
        row.met = row.values["CPU %"] <= _CPU_PERCENT
    total = Row(
        "all of it", {column: sum(row.values[column] for row in rows) for column in ("PSS MB", "CPU %")}
    )
    total.target = f"PSS ≤ {_PSS_MB:g} MB"
    total.met = total.values["PSS MB"] <= _PSS_MB
    report.rows = [*rows, total]
    return report
