"""One supervisor for each home: a lock that the kernel lets go of when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from fusiond.errors import AlreadyRunning


def acquire(path: Path) -> int:
    """Takes the lock and writes our pid into it; returns the descriptor to keep open.

    Raises AlreadyRunning naming the pid that holds it. A file left behind by a dead daemon does not disturb.
    """
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise AlreadyRunning(
                f"another fusiond holds {path.parent}: pid {holder}",
                advice="use it, or end it first: fusionctl stop",
            ) from None
        if _is_at(path, fd):
            break
        os.close(
            fd
        )  # the one before us let go between our opening and our locking: what we hold is no longer there
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def holds(path: Path, fd: int) -> bool:
    """Whether the lock that we have held by `fd` since before an exec is the one at `path`."""
    return _is_at(path, fd)


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def release(path: Path, fd: int) -> None:
    """Lets go of the lock; its file goes first, so that nobody finds a pid that is no daemon's."""
    with suppress(FileNotFoundError):
        path.unlink()
    os.close(fd)
