"""What the kernel offers to keep a tool's processes together and apart. Linux only, on purpose.

A worker lives in a PID namespace of its own: when the first process of it ends, the kernel ends all the others,
whatever they did to get away. Unprivileged that takes a user namespace too, in which we stay who we are.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_NEWNS, _NEWIPC, _NEWUSER, _NEWPID = 0x00020000, 0x08000000, 0x10000000, 0x20000000  # sched.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 16384, 1 << 18
_PROCESSES = 1024  # in a user namespace, where only the worker's own count


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def adopt_orphans() -> None:
    """Orphans among our descendants become our children (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """We get this signal when our parent dies. It is for the caller to look whether it lives still."""
    _prctl(_PR_SET_PDEATHSIG, number)


def hide() -> None:
    """No core dumps, and no look into our memory for other processes of the user (PR_SET_DUMPABLE)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def show() -> None:
    """We may look at what `/proc/self` holds again, as any program may."""
    _prctl(_PR_SET_DUMPABLE, 1)


def separate() -> bool:
    """Whether children of ours are to live in namespaces of their own: PIDs, mounts, System V IPC.

    The first child is the namespaces' first process. False if the kernel, or who runs us, does not allow it.
    """
    uid, gid = os.geteuid(), os.getegid()
    kinds = _NEWPID | _NEWNS | _NEWIPC
    if _libc.unshare(kinds) == 0:  # who may do that needs no user namespace
        return True
    if _libc.unshare(kinds | _NEWUSER) != 0:
        return False
    show()  # the files belong to root otherwise
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    resource.setrlimit(resource.RLIMIT_NPROC, _capped(resource.RLIMIT_NPROC, _PROCESSES))
    hide()
    return True


def own_proc() -> None:
    """Makes `/proc` show the processes of our own namespace only, where that is permitted."""
    if _libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) == 0:  # else it would be everybody's
        _libc.mount(b"proc", b"/proc", b"proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, None)


def limit_memory(megabytes: int) -> None:
    """This process and each of its children may take so much beyond what it has; when the machine runs out of
    memory, they go first.

    What counts is private writable memory (RLIMIT_DATA): address space that is merely reserved, as Node, Go and Java do
    by the gigabyte, does not.
    """
    base = _data_bytes()
    resource.setrlimit(resource.RLIMIT_DATA, _capped(resource.RLIMIT_DATA, base + (megabytes << 20)))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def resident_bytes(pid: int | str = "self") -> int:
    """The memory that a process occupies now; 0 for one that has ended."""
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:  # noqa: PTH123 — for each call, and quick
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) << 10
    return 0


def _capped(which: int, wanted: int) -> tuple[int, int]:
    """`wanted`, or what is allowed of it, as both limits."""
    hard = resource.getrlimit(which)[1]
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    return allowed, allowed
