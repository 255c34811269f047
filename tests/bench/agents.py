"""What an agent's steps cost: a run of 50 against peers on the same scripted model, and 200 runs at once.

The model answers at once and the tool does nothing. Each of Fusion's steps is on disk before it acts and after it has
observed, and the tool runs in another process; the peers do neither. They take turns, in this order, round by round.
"""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from fusionctl.client import Client
from tests.bench.agent_server import AgentServer
from tests.bench.report import Report, Row, p50
from tests.bench.tree import Tree, clean_environment

STEPS = 50
_PEERS = {"smolagents": "smolagents", "openai-agents": "agents"}
_TARGET = 0.35
_AT_ONCE, _FEW = 200, 5
_FLAT = 1.05
_CONFIG = f"""\
[tools]
modules = ["bench_tools"]
[agents.worker]
tools = ["noop"]
max_steps = {STEPS + 5}
"""
_TOOLS = '''\
from fusiond.tools import tool

@tool
def noop(n: int) -> int:
    """Does nothing."""
    return n
'''


def tree(config: str) -> Tree:
    """A tree with the tool and the agent."""
    made = Tree(config + _CONFIG)
    Path(made.home, "bench_tools.py").write_text(_TOOLS)
    return made


def run(say: Callable[[str], None], *, rounds: int = 5) -> Report:
    """Each side `rounds` times, in turn; then many runs at once, twice."""
    report = Report(
        f"A run of {STEPS} steps, in ms",
        "An instant model and a tool that does nothing; each of Fusion's steps is on disk before and after it acts.",
        {"p50": 1, "a step": 2, "to Fusion": 3},
    )
    with AgentServer(tokens=STEPS) as server, tree(server.config) as daemon:
        peers = [name for name, module in _PEERS.items() if importlib.util.find_spec(module)]
        ours, theirs = asyncio.run(_in_turn(say, daemon, server.url, peers, rounds))
    report.rows.append(Row("Fusion", {"p50": p50(ours), "a step": p50(ours) / STEPS}))
    for name in _PEERS:
        if name not in peers:
            report.rows.append(Row(name, note="not installed"))
            continue
        ratio = p50(ours) / p50(theirs[name])
        values = {"p50": p50(theirs[name]), "a step": p50(theirs[name]) / STEPS, "to Fusion": ratio}
        report.rows.append(Row(name, values, f"Fusion ≤ {_TARGET:g} ×", ratio <= _TARGET))
    report.rows.append(_many(say))
    return report


async def _in_turn(
    say: Callable[[str], None], daemon: Tree, url: str, peers: list[str], rounds: int
) -> tuple[list[float], dict[str, list[float]]]:
    ours: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in peers}
    async with Client(daemon.home, autostart=False) as client:
        await _one(client)  # the workers of the tools have started
        for number in range(rounds):
            say(f"agents: round {number + 1} of {rounds}")
            ours.append(await _one(client))
            for name in peers:
                theirs[name].append(_peer(name, url))
    return ours, theirs


async def _one(client: Client) -> float:
    began = time.perf_counter()
    reply = await client.run("worker", "go")
    took = (time.perf_counter() - began) * 1000
    assert (reply.answer, reply.steps) == ("done", STEPS), reply
    return took


def _peer(name: str, url: str) -> float:
    command = [sys.executable, "-m", "tests.bench.agent_peers", name, url, str(STEPS)]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1]) * 1000


def _many(say: Callable[[str], None]) -> Row:
    """Runs of a few steps, all at once, again and again; the agent's memory after the first time and after the last."""
    with AgentServer(tokens=_FEW) as server, tree(server.config) as daemon:
        took, before, after = asyncio.run(_at_once(say, daemon))
    flat = after / before
    note = f"{_AT_ONCE} runs of {_FEW} steps at once, all ended; the agent's memory {before:.0f} → {after:.0f} MB"
    return Row(
        "200 at once",
        {"p50": p50(took), "a step": p50(took) / _AT_ONCE / _FEW},
        f"memory ≤ {_FLAT:g} ×",
        flat <= _FLAT,
        note,
    )


async def _at_once(say: Callable[[str], None], daemon: Tree) -> tuple[list[float], float, float]:
    took: list[float] = []
    sizes: list[float] = []
    async with Client(daemon.home, autostart=False) as client:
        for number in range(6):
            say(f"agents: {_AT_ONCE} at once, {number + 1} of 6")
            began = time.perf_counter()
            replies = await asyncio.gather(*(client.run("worker", f"go {n}") for n in range(_AT_ONCE)))
            took.append((time.perf_counter() - began) * 1000)
            assert all(reply.answer == "done" for reply in replies)
            sizes.append(psutil.Process(daemon.actor("agent.0").pid).memory_info().rss / 1e6)
    return took, sizes[1], sizes[-1]
