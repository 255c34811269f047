"""An actor's end of its lifeline: heartbeats from its own event loop, and what the supervisor tells it.

When the lifeline ends the supervisor is gone, and so are we, at once: whatever was in flight is asked again.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fusiond.protocol.control import Fault
from fusiond.protocol.lifeline import Beat, Commit, Notice, Relog, decode_to_process, encode

MAX_DATAGRAM = 256 * 1024


class Life:
    """Beats every `interval_ms` from the running loop; hands what the supervisor says to `on_word`."""

    def __init__(self, lifeline: socket.socket, interval_ms: int, on_word: Callable[[Any], None]) -> None:
        self._lifeline = lifeline
        self._lifeline.setblocking(False)
        self._interval = interval_ms / 1000
        self._on_word = on_word
        self._seq = 0
        self.in_flight: Callable[[], int] = int
        self.children: Callable[[], list[int]] = list
        self.progress = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(lifeline.fileno(), self.read)
        self._expected = self._loop.time()
        self._beat()

    def read(self) -> None:
        """Takes everything the supervisor has said so far."""
        while True:
            try:
                word, fds, _, _ = socket.recv_fds(self._lifeline, MAX_DATAGRAM, 1)
            except BlockingIOError:
                return
            except OSError:
                word, fds = b"", []
            if not word:
                os._exit(0)
            if fds:  # a standby gets the log of the actor that it becomes; a log goes on in a new file
                write_to(fds[0])
            decoded = decode_to_process(word)
            if isinstance(decoded, Commit):
                commit(decoded.fault)
            elif not isinstance(decoded, Relog):
                self._on_word(decoded)

    def say(self, word: Any) -> None:
        """One datagram to the supervisor; dropped if it does not read (it is stopped: it will be replaced)."""
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            self._lifeline.send(encode(word))

    def notice(self, kind: str, actor: str, detail: str = "", uid: int | None = None) -> None:
        """An event for the record. `uid`: whose doing it was."""
        self.say(Notice(kind, actor, detail, uid))

    def _beat(self) -> None:
        now = self._loop.time()
        lag_ms = max(0.0, now - self._expected) * 1000
        self._seq += 1
        self.say(Beat(self._seq, lag_ms, self.in_flight(), self.progress, self.children()))
        self._expected = next_beat(now, self._interval)
        self._loop.call_at(self._expected, self._beat)


def next_beat(now: float, interval: float) -> float:
    """The next of the moments, the same for all processes, at which they beat: so the supervisor wakes once for all."""
    return (now // interval + 1) * interval


def write_to(log_fd: int) -> None:
    """Sends standard output and error to this log from now on."""
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.close(log_fd)


def commit(fault: Fault) -> None:
    """Does what must never happen, so that a person can watch it being noticed (`fusionctl kill --fault`)."""
    if fault == "block":
        time.sleep(1e9)
    else:
        ctypes.PyDLL(None).sleep(10**9)  # a PyDLL call keeps the interpreter's lock
