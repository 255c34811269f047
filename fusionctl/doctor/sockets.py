"""Sockets: those of a daemon that runs are there and listened at; what dead ones left behind."""

from __future__ import annotations

import errno
import shlex
import socket
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from fusionctl.doctor.case import Case
from fusionctl.doctor.finding import Finding

CHECK = "sockets"
_IN_USE = 60.0  # seconds; a temporary file younger than this may be in use
_NAMED = 4  # files that a finding names


def check(case: Case) -> Iterator[Finding]:
    """Missing and dead sockets, a lock of a dead daemon, temporary files that nobody will rename any more."""
    wrong = list(_missing(case)) if case.holder is not None else list(_left(case))
    wrong += [_leftover(files) for files in (_dead_sockets(case), _temporary(case)) if files]
    yield from wrong
    if not wrong:
        names = [path.name for path in _own(case)]
        yield Finding(
            CHECK, True, f"{', '.join(names)} in {case.paths.run}" if case.holder else "nothing left behind"
        )


def _own(case: Case) -> list[Path]:
    paths = case.paths
    return [paths.router_socket, paths.supervisor_socket, paths.actors_socket]


def _missing(case: Case) -> Iterator[Finding]:
    """What a daemon that runs should have."""
    for path in _own(case):
        if not _is_socket(path):
            yield Finding(CHECK, False, f"the daemon runs, but its socket {path} is gone", case.again)
        elif _is_dead(path):
            yield Finding(CHECK, False, f"the daemon runs, but nobody listens at {path}", case.again)


def _left(case: Case) -> Iterator[Finding]:
    """What a daemon that died left behind. The next one replaces it."""
    files = [path for path in _own(case) if path.exists() or path.is_symlink()]
    if case.paths.lock.exists():
        pid = (case.paths.lock.read_text().split() or ["nobody"])[0]
        files.append(case.paths.lock)
        detail = f"the lock of a dead daemon (pid {pid}) is left"
    else:
        detail = "no daemon runs, but files of one are left"
    if files:
        yield Finding(
            CHECK, False, f"{detail}: {_names(files)}", f"the next start replaces them, or: {_removal(files)}"
        )


def _dead_sockets(case: Case) -> list[Path]:
    """Of actors that are no more: sockets that nobody listens at."""
    files = _below(case.paths.run, "*.sock")
    return [path for path in files if path not in _own(case) and _is_socket(path) and _is_dead(path)]


def _temporary(case: Case) -> list[Path]:
    paths = case.paths
    patterns = (
        (paths.run, "*.tmp"),
        (paths.state, "*.tmp"),
        (paths.models, "*.tmp"),
        (paths.models, ".pull-*"),
    )
    oldest = time.time() - _IN_USE if case.holder is not None else time.time()
    return [
        path for folder, pattern in patterns for path in _below(folder, pattern) if _changed(path) <= oldest
    ]


def _below(folder: Path, pattern: str) -> list[Path]:
    return sorted({*folder.glob(pattern), *folder.glob(f"*/{pattern}")}) if folder.is_dir() else []


def _leftover(files: list[Path]) -> Finding:
    return Finding(CHECK, False, f"left behind: {_names(files)}", f"remove it: {_removal(files)}")


def _names(files: Iterable[Path]) -> str:
    names = [path.name for path in files]
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _removal(files: Iterable[Path]) -> str:
    return f"rm -r {' '.join(shlex.quote(str(path)) for path in files)}"


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _is_dead(path: Path) -> bool:
    """Nobody listens at it. One whose queue is full, or that may not be asked, is alive."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) == errno.ECONNREFUSED


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return float("inf")
