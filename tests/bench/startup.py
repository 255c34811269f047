"""How long a command takes: `fusionctl health` of a running daemon as a whole process, against its imports alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.bench.report import Report, Row, p50, percentile
from tests.bench.tree import Tree, clean_environment

_RATIO = 1.4
_HEALTH = "`fusionctl health`"
_IMPORTS = '`python -c "import zmq, msgspec, click"`'
_NOTHING = "`python -c pass`"


def run(say: Callable[[str], None], *, rounds: int = 40) -> Report:
    """Each command `rounds` times, in turn."""
    taken: dict[str, list[float]] = {}
    with Tree() as tree:
        commands = _commands(tree.home)
        for command in commands.values():  # the first time reads the disk and writes byte code
            _seconds(command, tree.env)
        for number in range(rounds):
            say(f"startup: round {number + 1} of {rounds}")
            for name, command in commands.items():
                taken.setdefault(name, []).append(_seconds(command, clean_environment()) * 1000)
    return _report(taken)


def _commands(home: Path) -> dict[str, list[str]]:
    script = Path(sys.executable).with_name("fusionctl")
    fusionctl = [str(script)] if script.exists() else [sys.executable, "-m", "fusionctl"]
    return {
        _HEALTH: [*fusionctl, "--home", str(home), "health"],
        _IMPORTS: [sys.executable, "-c", "import zmq, msgspec, click"],
        _NOTHING: [sys.executable, "-c", "pass"],
    }


def _seconds(command: list[str], env: Mapping[str, str]) -> float:
    began = time.perf_counter()
    ended = subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=False)
    took = time.perf_counter() - began
    if ended.returncode not in (0, 1):  # 1: an actor is not ready; `health` has done its work all the same
        raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}")
    return took


def _report(taken: dict[str, list[float]]) -> Report:
    report = Report(
        "Start-up of the command line, in ms",
        "Whole processes, from start to exit, against a running daemon.",
        {"p50": 1, "p99": 1, "p50 to its imports'": 2},
    )
    for name, samples in taken.items():
        report.rows.append(
            Row(
                name,
                {
                    "p50": p50(samples),
                    "p99": percentile(samples, 99),
                    "p50 to its imports'": p50(samples) / p50(taken[_IMPORTS]),
                },
            )
        )
    health = report.rows[0]
    health.target = f"p50 ≤ {_RATIO} × its imports'"
    health.met = health.values["p50 to its imports'"] <= _RATIO
    return report
