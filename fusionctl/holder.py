"""The process that holds a home: found through the home's lock file, looked at through /proc, ended through a
pidfd.

A supervisor writes its pid into `paths.lock` and keeps an exclusive `flock` on it for as long as it lives.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from fusiond.errors import Denied
from fusiond.paths import GROUP_ADVICE, Paths

_TICKS = os.sysconf("SC_CLK_TCK")


class Holder(NamedTuple):
    """A live supervisor.

    `born`: its start in clock ticks since boot; with `pid` it names one process for ever.
    """

    pid: int
    born: int
    uid: int

    @property
    def ours(self) -> bool:
        return self.uid == os.getuid()

    @property
    def state(self) -> str:
        """The kernel's letter: R S D, T for stopped by a signal, t traced, "" for gone."""
        fields = _stat(self.pid)
        return fields[0] if fields and int(fields[19]) == self.born else ""

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.born / _TICKS

    @property
    def service(self) -> bool:
        """systemd started it, and will start it again."""
        try:
            group = Path(f"/proc/{self.pid}/cgroup").read_text()
        except OSError:
            return False
        return any(part.startswith("fusi") and part.endswith(".service") for part in group.strip().split("/"))

    def pidfd(self) -> int | None:
        """A descriptor that becomes readable when the process ends; None if it has. The caller closes it."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        if self.state in ("", "Z"):
            os.close(fd)
            return None
        return fd

    def wait(self, seconds: float) -> bool:
        """Waits for its end; returns whether it came."""
        fd = self.pidfd()
        if fd is None:
            return True
        try:
            return bool(select.select([fd], [], [], seconds)[0])
        finally:
            os.close(fd)


def find(paths: Paths) -> Holder | None:
    """Who holds this home now, None if nobody. Raises `Denied` where the home is another user's."""
    try:
        text = paths.lock.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        return _listener(paths.supervisor_socket)
    pid = text.split()[0] if text.split() else ""
    if not pid.isdecimal():
        return None
    holder = _look(int(pid))
    return holder if holder is not None and _locked(paths.lock) else None


def end(holder: Holder) -> None:
    """Kills a supervisor that cannot be asked to stop, and with it its processes. It returns when they are
    gone.

    They die with their parent by themselves; one that does not within two seconds is killed too.
    """
    with ExitStack() as stack:
        fds = {}
        for pid in (holder.pid, *_children(holder.pid)):
            try:
                fds[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            stack.callback(os.close, fds[pid])
        if holder.state == "":
            return
        signal.pidfd_send_signal(fds[holder.pid], signal.SIGKILL)
        for left in _await_ends(list(fds.values()), 2.0):
            signal.pidfd_send_signal(left, signal.SIGKILL)
        _await_ends(list(fds.values()), 1.0)


def _await_ends(fds: list[int], seconds: float) -> list[int]:
    """Waits until the processes behind `fds` have ended; returns those that have not."""
    deadline = time.monotonic() + seconds
    left = fds
    while left and (wait := deadline - time.monotonic()) > 0:
        ended = select.select(left, [], [], wait)[0]
        left = [fd for fd in left if fd not in ended]
    return left


def _listener(path: Path) -> Holder | None:
    """Who listens at `path`: how a member of the service's group, who may not read its lock, finds it."""
    import socket
    import struct

    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(str(path))
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except PermissionError:
        raise Denied(
            f"{path.parent} is not open to you",
            advice=GROUP_ADVICE,
        ) from None
    except OSError:
        return None
    finally:
        probe.close()
    return _look(struct.unpack("3i", credentials)[0])


def _look(pid: int) -> Holder | None:
    """The process `pid` if it lives and is a fusiond."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    fields = _stat(pid)
    if b"fusiond" not in command or not fields or fields[0] in "ZX":
        return None
    uid = next(line.split()[1] for line in status.splitlines() if line.startswith("Uid:"))
    return Holder(pid, int(fields[19]), int(uid))


def _locked(lock: Path) -> bool:
    """Somebody holds the lock.

    A moment's shared lock is how one asks; a live pid in the file has been seen before.
    """
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from the third field (the state) on; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
