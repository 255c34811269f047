"""A keeper: the parent of one worker or one MCP server, and the first process of its namespaces.

It runs nothing of theirs. It takes the worker's output to the log, says how it ended, and whatever it has left ends
with the keeper: by the kernel where there are namespaces, else by the keeper's own hand. It ends when its actor does.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

import psutil
import setproctitle

from fusiond.tools.allowance import Allowance
from fusiond.tools.namespaces import adopt_orphans, die_with_parent, own_proc
from fusiond.tools.wire import ended

_CHUNK = 64 * 1024


def keep(
    connection: socket.socket,
    isolated: bool,
    title: str,
    work: Callable[[], NoReturn],
    its_own: Sequence[int] = (),
) -> NoReturn:
    """Waits for the actor's word that it is our parent now, forks the worker, sees to it until it ends.

    `its_own`: descriptors that nobody but the worker is to have.
    """
    os.setsid()  # a tool that signals its process group must not hit the actor
    setproctitle.setproctitle(title)
    if not connection.recv(1):
        os._exit(0)
    if isolated:
        die_with_parent()
        own_proc()
    else:
        adopt_orphans()
        signal.signal(signal.SIGTERM, lambda *_: _end())
        die_with_parent(signal.SIGTERM)
    if _is_closed(connection):  # it died before the death signal was armed
        os._exit(0)
    reader, writer = os.pipe()
    worker = os.fork()
    if worker == 0:
        _become_worker(reader, writer, work)
    for fd in (writer, *its_own):
        os.close(fd)
    _Output(reader).follow(worker)
    status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    with suppress(OSError):
        connection.send(ended(status), socket.MSG_DONTWAIT)
    if not isolated:
        _end()
    os._exit(0)


def _become_worker(reader: int, writer: int, work: Callable[[], NoReturn]) -> NoReturn:
    try:
        die_with_parent()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.close(reader)
        os.close(writer)
        work()
    finally:
        os._exit(1)


def _is_closed(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


def _end() -> NoReturn:
    """Kills all that has come of the worker: orphans of it become our children."""
    with suppress(psutil.Error):
        while children := psutil.Process().children(recursive=True):
            for child in children:
                with suppress(psutil.Error):
                    child.kill()
            psutil.wait_procs(children, timeout=0.2)
    os._exit(0)


class _Output:
    """What the worker, or anything that it started, writes to standard output and error."""

    def __init__(self, reader: int) -> None:
        self._reader = reader
        self._allowance = Allowance()

    def follow(self, worker: int) -> None:
        """Takes it to the log until the worker ends."""
        poll = select.poll()
        end = os.pidfd_open(worker)
        poll.register(end, select.POLLIN)
        poll.register(self._reader, select.POLLIN)
        os.set_blocking(self._reader, False)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self._reader in ready and not self._take():
                poll.unregister(self._reader)  # all of them have closed theirs
            elif end in ready:
                self._take()
                _admit(self._allowance.dropped())
                return

    def _take(self) -> bool:
        try:
            piece = os.read(self._reader, _CHUNK)
        except BlockingIOError:
            return True
        admitted, dropped = self._allowance.admit(piece)
        _admit(dropped)
        _log(admitted)
        return bool(piece)


def _admit(dropped: int) -> None:
    if dropped:
        _log(b"(%d bytes of its output left out)\n" % dropped)


def _log(text: bytes) -> None:
    """Lines like those of the actor, whose log our standard error is."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z INFO    "
    lines = b"".join(stamp.encode() + line + b"\n" for line in text.splitlines())
    with suppress(OSError):
        os.write(2, lines)
