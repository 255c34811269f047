"""Modules with tools that take long, or for ever, to be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.tree import ROOT

_GOOD = '''
from fusiond.tools import tool

@tool
def greet() -> str:
    """Greets."""
    return "hello"
'''


def alone(folder: Path, loading_s: float, modules: dict[str, str], *names: str) -> dict[str, Any]:
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "tests.tools.pool_alone", str(folder), str(loading_s), ",".join(modules)]
    done = subprocess.run(
        [*command, *names], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["left"] == []
    return said


def test_a_module_whose_import_never_ends_is_left_out_and_the_others_work(tmp_path: Path) -> None:
    hangs = "import time\ntime.sleep(1000)\n"
    said = alone(tmp_path, 2.0, {"hangs": hangs, "good": _GOOD, "hangs_too": hangs}, "greet")
    assert said["texts"] == ["hello"]
    assert "took more than 2 s" in said["problems"]["hangs"]
    assert "took more than 2 s" in said["problems"]["hangs_too"]


def test_a_module_that_died_once_while_it_was_loaded_is_tried_again(tmp_path: Path) -> None:
    dies_once = f"""
import os, pathlib
if not (been := pathlib.Path({str(tmp_path / "been")!r})).exists():
    been.touch()
    os.kill(os.getpid(), 9)
"""
    said = alone(tmp_path, 10.0, {"dies_once": dies_once + _GOOD}, "greet")
    assert said["texts"] == ["hello"]
    assert "dies_once" not in said["problems"]


def test_a_module_that_takes_its_time_is_waited_for(tmp_path: Path) -> None:
    slow = "import time\ntime.sleep(1)\n" + _GOOD
    said = alone(tmp_path, 10.0, {"slow": slow}, "greet")
    assert said["texts"] == ["hello"]
    assert "slow" not in said["problems"]
