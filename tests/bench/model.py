"""`kill -9` of the embedded model's process without a standby → ready, against the time the model takes to load.

What cannot be avoided is the load itself: a fresh process that has imported everything loads the same file with the
same settings, in turn with the kills. With the standby, which is the default, nobody waits for that: how long does a
request asked at the kill take then?
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fusiond import paths
from fusiond.errors import ConfigError
from fusiond.models import SMOLLM2, locate
from tests.bench.recovery import PAUSE_S, Actor, Served
from tests.bench.report import Report, Row, p50, percentile
from tests.bench.tree import Tree, Watch, clean_environment

_RATIO = 1.3
_ALONE = f'model = "local/{SMOLLM2.name}"\n[actors.llm]\nstandby = 0\n'
_TWINS = f'model = "local/{SMOLLM2.name}"\n'
_LOAD, _KILL, _PROMOTED = (
    "the model's own load",
    "Fusion: llm.0, no standby",
    "Fusion: llm.0, its standby answers",
)


def run(say: Callable[[str], None], *, rounds: int = 10) -> Report:
    """Loads and kills, `rounds` of each, in turn; then as many kills with a standby."""
    report = Report(
        "The embedded model: from SIGKILL to ready, in ms",
        "Without a standby, against the load alone (a fresh process, imports done); and with one.",
        {"times": 0, "p50": 0, "max": 0, "p50 to its load": 2},
    )
    if missing := missing_model():
        report.rows.append(Row("Fusion: llm.0", note=f"skipped: {missing}"))
        return report
    taken = _alone(say, rounds)
    taken[_PROMOTED] = _with_standby(say, rounds)
    for name, samples in taken.items():
        values = {"times": len(samples), "p50": p50(samples), "max": percentile(samples, 100)}
        report.rows.append(Row(name, values | {"p50 to its load": p50(samples) / p50(taken[_LOAD])}))
        if name == _KILL:
            report.rows[-1].target = f"p50 ≤ {_RATIO} × its load"
            report.rows[-1].met = p50(samples) <= _RATIO * p50(taken[_LOAD])
    return report


def missing_model() -> str:
    """Why the embedded model cannot be measured here, "" if it can."""
    if importlib.util.find_spec("xllamacpp") is None:
        return "xllamacpp is not installed"
    try:
        locate(models_folder(), SMOLLM2.name)
    except ConfigError as error:
        return str(error)
    return ""


def models_folder() -> Path:
    """Where this user's models are, FUSION_MODELS or else the usual folder."""
    return paths.resolve().models


def _alone(say: Callable[[str], None], rounds: int) -> dict[str, list[float]]:
    file = locate(models_folder(), SMOLLM2.name)
    taken: dict[str, list[float]] = {_LOAD: [], _KILL: []}
    with Tree(_ALONE, {"FUSION_MODELS": str(models_folder())}) as tree:
        watch = Watch(tree)
        actor = Actor(tree, watch, "llm.0")
        for number in range(rounds):
            say(f"model: round {number + 1} of {rounds}")
            taken[_LOAD].append(_load_ms(file))
            time.sleep(PAUSE_S)
            taken[_KILL].append(actor.kill() * 1000)
        watch.close()
    return taken


def _load_ms(file: Path) -> float:
    command = [sys.executable, "-m", "tests.bench.model_load", SMOLLM2.name, str(file)]
    shown = subprocess.run(command, env=clean_environment(), stdout=subprocess.PIPE, check=True)
    return float(shown.stdout) * 1000


def _with_standby(say: Callable[[str], None], rounds: int) -> list[float]:
    """Kills when the standby is warm: until it has answered a request that was asked at the kill."""
    taken = []
    with Tree(_TWINS, {"FUSION_MODELS": str(models_folder())}) as tree:
        watch = Watch(tree)
        actor = Served(tree, watch, "llm.0", "llm")
        for number in range(rounds):
            say(f"model: round {number + 1} of {rounds}, with a standby")
            tree.settle()
            time.sleep(PAUSE_S)
            taken.append(actor.kill() * 1000)
        actor.close()
        watch.close()
    return taken
