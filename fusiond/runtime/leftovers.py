"""What daemons that died have left behind, found without a record of it.

Whatever the kernel did not take along (a process that was stopped before it had armed its death signal) has lost
its parent: an actor's parent is its supervisor, always. So an actor whose parent is no process of ours is nobody's.
What actors start themselves carries `TREE` in its environment, and belongs to the home that it names.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from fusiond.paths import TREE

_OURS = b"fusiond: "
_NAME = b"fusiond"  # in the command line of whoever begins: it has not taken its title yet
_SUPERVISOR = b"fusiond: supervisor"


def sweep(run: Path) -> list[int]:
    """Kills every such process of this user; returns their pids. Call it while holding the lock of `run`."""
    mark = f"{TREE}={run}".encode()
    swept = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with suppress(
            OSError, ValueError, StopIteration
        ):  # it has ended meanwhile, or is none of our business
            if _is_left(folder, mark):
                os.kill(int(folder.name), signal.SIGKILL)
                swept.append(int(folder.name))
    return swept


def _is_left(folder: Path, mark: bytes) -> bool:
    status = (folder / "status").read_text()
    if _field(status, "Uid:") != os.getuid():
        return False
    title = (folder / "cmdline").read_bytes()
    if title.startswith(_OURS):
        if title.startswith(_SUPERVISOR):
            return False
        parent = Path("/proc", str(_field(status, "PPid:")), "cmdline").read_bytes()
        return _NAME not in parent
    return mark in (folder / "environ").read_bytes().split(b"\0")


def _field(status: str, name: str) -> int:
    """The first number behind `name` in proc(5)'s `status`."""
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])
