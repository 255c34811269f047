"""What Python does not offer of Linux. Linux only, on purpose."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from pathlib import Path
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_M_ARENA_MAX = -8
_PF_EXITING = (
    0x4  # include/linux/sched.h: dying takes a process milliseconds, in which its state is still "running"
)

_PAGE = os.sysconf("SC_PAGESIZE")
_TICK = os.sysconf("SC_CLK_TCK")

DUMP_SIGNAL = signal.SIGUSR2
"""Makes an actor write the stacks of its threads to its log."""


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def become_subreaper() -> None:
    """Orphans among our descendants become our children (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """Arms SIGKILL for the moment our parent dies; exits at once if `parent` is not our parent any more.

    Must be called after the reparenting: armed before, the end of the intermediate would kill us.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def keep_secrets() -> None:
    """No core dumps, and no look into our memory or environment for other processes of the user (PR_SET_DUMPABLE).

    Forked children inherit it; after an exec it must be said again. `FUSION_CORE_DUMPS=1` asks for core dumps, and
    they hold keys.
    """
    if os.environ.get("FUSION_CORE_DUMPS") == "1":
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def share_heap() -> None:
    """One heap for all threads (mallopt(3), M_ARENA_MAX): libzmq's would each dirty half a megabyte of their own."""
    _libc.mallopt(_M_ARENA_MAX, 1)


def is_there(pid: int) -> bool:
    """Whether there is a process of ours with this pid, were it a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_fit(pid: int) -> bool:
    """Whether the process can run: it is there, neither stopped by a signal or a tracer nor on its way out.

    Where /proc hides what may not be traced (its option hidepid), only whether it is there.
    """
    try:
        fields = _stat(pid)
    except OSError:
        return is_there(pid)
    state, flags, pending = fields[0], int(fields[6]), int(fields[28])
    killed = flags & _PF_EXITING or pending & 1 << (signal.SIGKILL - 1)
    return state not in (b"T", b"t", b"Z", b"X") and not killed


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since boot; 0 where it does not say."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def rss(pid: int) -> int:
    """Bytes of memory that the process holds; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    except OSError:
        return 0


class Usage(NamedTuple):
    """What a process has used of the processor, and how long it is there, in seconds."""

    cpu_s: float
    age_s: float


def usage(pid: int) -> Usage | None:
    """None if it is gone, or not to be seen."""
    try:
        fields = _stat(pid)
    except OSError:
        return None
    user, system, started = (int(fields[at]) / _TICK for at in (11, 12, 19))
    return Usage(user + system, time.clock_gettime(time.CLOCK_BOOTTIME) - started)


def _stat(pid: int) -> list[bytes]:
    """The fields of proc(5)'s `stat` from `state`, the third, on."""
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    return stat[stat.rindex(b")") + 2 :].split(maxsplit=29)


def raise_open_files() -> None:
    """As many open files as we may: libzmq aborts the process when it cannot accept a connection."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; a real-time signal has a number only."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
