"""Batches: what the journal costs, against loops that keep none; memory; a start with a long history."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from tests.bench.batch_history import with_history
from tests.bench.instant_server import Server
from tests.bench.report import Report, Row, p50
from tests.bench.tree import Tree, clean_environment

_AT_ONCE = 64
_DELAY_S = 0.2
_SLOW, _FAST, _SDK, _LONG, _EARLY = 2000, 20_000, 3000, 100_000, 10_000  # items
_HISTORY = 1_000_000
_LOOPED, _COMMAND, _RATE, _SDK_RATIO, _MEMORY, _START = 1.05, 1.10, 2200, 5, 1.1, 1.2
_ACTORS = ("router", "llm.0", "batch", "store")


def run(say: Callable[[str], None], *, rounds: int = 3) -> Report:
    """`rounds` of each comparison, the sides in turn."""
    report = Report(
        "Batches",
        f"{_AT_ONCE} at once; `first to last`: from the first request to the last record, the command aside.",
        {"first to last s": 2, "whole command s": 2, "items/s": 0, "ratio": 3},
    )
    with tempfile.TemporaryDirectory(prefix="fusion-bench-") as name:
        folder = Path(name)
        report.rows += _slow(say, folder, rounds)
        report.rows += _fast(say, folder, rounds)
        report.rows += _memory(say, folder)
        report.rows += _history(say, rounds)
    return report


def _slow(say: Callable[[str], None], folder: Path, rounds: int) -> list[Row]:
    file = _prompts(folder, _SLOW)
    ours: list[tuple[float, float]] = []
    loop: list[tuple[float, float]] = []
    with Server(delay=_DELAY_S) as server, Tree(server.config) as tree:
        for each in range(rounds):
            say(f"batch: {_SLOW:,} slow items, {each + 1} of {rounds}")
            ours.append(_batch(tree, file))
            loop.append(_loop("aiohttp", file, server.url))
    (inner, whole), (loop_inner, loop_whole) = map(_medians, (ours, loop))
    fusion = Row(
        f"`fusionctl batch`, {_SLOW:,} items of {_DELAY_S * 1000:.0f} ms",
        {"first to last s": inner, "whole command s": whole, "ratio": inner / loop_inner},
        target=f"≤ {_LOOPED} × and, as a command, ≤ {_COMMAND} × the loop's ({whole / loop_whole:.3f})",
    )
    fusion.met = inner / loop_inner <= _LOOPED and whole / loop_whole <= _COMMAND
    return [
        fusion,
        Row(
            "a loop with asyncio and aiohttp",
            {"first to last s": loop_inner, "whole command s": loop_whole, "ratio": 1},
        ),
    ]


def _fast(say: Callable[[str], None], folder: Path, rounds: int) -> list[Row]:
    file, short = _prompts(folder, _FAST), _prompts(folder, _SDK)
    ours, sdk = [], []
    known = importlib.util.find_spec("openai") is not None
    with Server() as server, Tree(server.config) as tree:
        for each in range(rounds):
            say(f"batch: {_FAST:,} instant items, {each + 1} of {rounds}")
            ours.append(_FAST / _batch(tree, file)[0])
            if known:
                sdk.append(_SDK / _loop("openai", short, server.url)[0])
    fusion = Row(f"`fusionctl batch`, {_FAST:,} instant items", {"items/s": p50(ours)})
    fusion.target = f"≥ {_RATE:,}/s, ≥ {_SDK_RATIO} × openai's"
    fusion.met = p50(ours) >= _RATE
    if not known:
        return [fusion, Row("a loop over openai's AsyncOpenAI", note="skipped: openai is not installed")]
    fusion.values["ratio"] = p50(ours) / p50(sdk)
    fusion.met = fusion.met and p50(ours) / p50(sdk) >= _SDK_RATIO
    return [fusion, Row("a loop over openai's AsyncOpenAI", {"items/s": p50(sdk), "ratio": 1})]


def _memory(say: Callable[[str], None], folder: Path) -> list[Row]:
    """Of the processes at work, after a tenth and at the end."""
    file = _prompts(folder, _LONG)
    early: dict[str, float] = {}
    late: dict[str, float] = {}
    times: list[tuple[float, int]] = []
    with Server() as server, Tree(server.config) as tree:
        client = _start(tree, "batch", str(file), "--json", "-o", "/dev/null", "--concurrency", str(_AT_ONCE))
        assert client.stdout is not None
        pids = {name: tree.actor(name).pid for name in _ACTORS} | {"client": client.pid}
        for line in client.stdout:
            done = json.loads(line)["completed"]
            times.append((time.perf_counter(), done))
            if done >= _EARLY and not early:
                early = {name: _rss_mb(pid) for name, pid in pids.items()}
            if done < _LONG:
                late = {name: _rss_mb(pid) for name, pid in pids.items()}
            say(f"batch: {done:,} of {_LONG:,} items")
        if client.wait():
            raise RuntimeError(f"the batch ended with {client.returncode}")
    rows = []
    for name in pids:
        row = Row(f"{name}: RSS {early[name]:.0f} → {late[name]:.0f} MB", {"ratio": late[name] / early[name]})
        row.target, row.met = f"≤ {_MEMORY}", late[name] / early[name] <= _MEMORY
        rows.append(row)
    first, last = _rate(times, 0, _EARLY * 2), _rate(times, _LONG - _EARLY * 2, _LONG)
    rows.append(Row("cost of an item, the last fifth to the first", {"items/s": last, "ratio": first / last}))
    return rows


def _history(say: Callable[[str], None], rounds: int) -> list[Row]:
    """How long a start takes with a million results in the database, against one with none."""
    say(f"batch: a history of {_HISTORY:,} items")
    taken: dict[str, list[float]] = {"empty": [], "full": []}
    with with_history(_HISTORY) as (empty, full):
        for _ in range(max(rounds, 5)):
            for name, home in (("empty", empty), ("full", full)):
                env = clean_environment() | {"FUSION_HOME": str(home)}
                began = time.perf_counter()
                _control(env, "start")
                taken[name].append(time.perf_counter() - began)
                _control(env, "stop")
    ratio = p50(taken["full"]) / p50(taken["empty"])
    row = Row(f"`fusionctl start` with {_HISTORY:,} finished items", {"whole command s": p50(taken["full"])})
    row.values["ratio"], row.target, row.met = ratio, f"≤ {_START} × an empty one", ratio <= _START
    return [row, Row("the same with none", {"whole command s": p50(taken["empty"]), "ratio": 1})]


# --- the sides -------------------------------------------------------------------------------------------------------


def _prompts(folder: Path, count: int) -> Path:
    file = folder / f"{count}.txt"
    file.write_text("\n".join(f"What do you say to number {number}?" for number in range(count)))
    return file


def _start(tree: Tree, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fusionctl", *args], env=tree.env, stdout=subprocess.PIPE, text=True
    )


def _control(env: dict[str, str], *args: str) -> str:
    command = [sys.executable, "-m", "fusionctl", *args]
    return subprocess.run(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
    ).stdout


def _batch(tree: Tree, file: Path) -> tuple[float, float]:
    """Seconds from the first request to the last record, and of the whole command."""
    began = time.perf_counter()
    _control(tree.env, "batch", str(file), "-o", "/dev/null", "--concurrency", str(_AT_ONCE), "--restart")
    whole = time.perf_counter() - began
    (job, *_) = json.loads(_control(tree.env, "batches", "list", "--json"))
    detail: dict[str, Any] = json.loads(_control(tree.env, "batches", "show", job["id"], "--json"))
    assert detail["request_counts"] == {"total": _lines(file), "completed": _lines(file), "failed": 0}
    return (_time(detail["ended"]) - _time(detail["began"])), whole


def _lines(file: Path) -> int:
    return int(file.stem)


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _loop(kind: str, file: Path, url: str) -> tuple[float, float]:
    command = [sys.executable, "-m", "tests.bench.batch_loop", kind, str(file), url, str(_AT_ONCE)]
    began = time.perf_counter()
    done = subprocess.run(command, env=clean_environment(), stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout), time.perf_counter() - began


def _medians(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    return p50([inner for inner, _ in pairs]), p50([whole for _, whole in pairs])


def _rss_mb(pid: int | None) -> float:
    assert pid is not None
    return float(psutil.Process(pid).memory_info().rss) / 1e6


def _rate(times: list[tuple[float, int]], low: int, high: int) -> float:
    """Items a second between two counts."""
    within = [(at, done) for at, done in times if low <= done <= high]
    (began, before), (ended, after) = within[0], within[-1]
    return (after - before) / (ended - began)
