"""The code on disk: whether it is still what runs here, and whether it could."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from pathlib import Path

import msgspec

_OURS = Path(__file__).resolve().parents[1]
_INSTALLED = Path(msgspec.__file__).resolve().parents[1]
"""Where what we need is installed: each version of a package has a folder of its own name there."""

_TRY = """\
import os, pathlib, sys
from fusiond import config, daemon
from fusiond.actors import agent, batch, host, llm, mcp, router, store, tools
from fusiond.runtime import child, forkserver
config.load(pathlib.Path(sys.argv[1]), os.environ)
print("fine")
"""
_FINE = "fine"
_PATIENCE = 30.0  # seconds


def stamp() -> str:
    """Another one as soon as our code is another, or a package is installed in another version."""
    files = [(path, path.stat()) for path in sorted(_OURS.rglob("*.py"))]
    ours = [f"{path} {found.st_size} {found.st_mtime_ns}" for path, found in files]
    theirs = sorted(path.name for path in _INSTALLED.glob("*.dist-info"))
    return hashlib.sha256("\n".join([*ours, *theirs]).encode()).hexdigest()


async def fault(config_file: Path) -> str:
    """Why the code on disk would not start with this configuration, "" if it would."""
    loop = asyncio.get_running_loop()
    trial = _trial(config_file)
    alarm = loop.call_later(_PATIENCE, trial.kill)
    assert trial.stdout is not None
    said = await asyncio.to_thread(trial.stdout.read)
    alarm.cancel()
    trial.stdout.close()
    trial.returncode = 0  # whoever reaps our children has reaped it, too; what it said is what counts
    lines = said.decode(errors="replace").strip().splitlines() or ["it says nothing"]
    return "" if lines[-1] == _FINE else lines[-1]


def _trial(config_file: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _TRY, str(config_file)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
