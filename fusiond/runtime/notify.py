"""What systemd is told (sd_notify(3)): that the daemon is ready, reloads, ends, how it is, and that it lives.

The watchdog is petted from the event loop that supervises: a supervisor that hangs does not pet it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress

_ADDRESS = "NOTIFY_SOCKET"
_WATCHDOG = "WATCHDOG_USEC"
_WATCHDOG_PID = "WATCHDOG_PID"


def forget(env: MutableMapping[str, str]) -> None:
    """What is not the supervisor does not speak to the service manager."""
    for name in (_ADDRESS, _WATCHDOG, _WATCHDOG_PID):
        env.pop(name, None)


class Notifier:
    """Says nothing where no service manager asked for it. What it finds in `env` it takes out: no child is to speak."""

    def __init__(self, env: MutableMapping[str, str]) -> None:
        address = env.get(_ADDRESS, "")
        microseconds = env.get(_WATCHDOG, "")
        for_us = env.get(_WATCHDOG_PID, str(os.getpid())) == str(os.getpid())
        self.environment = {name: env[name] for name in (_ADDRESS, _WATCHDOG, _WATCHDOG_PID) if name in env}
        """What the service manager told us, for whoever we become."""
        forget(env)
        self._socket: socket.socket | None = None
        self._every = int(microseconds) / 2_000_000 if microseconds.isdigit() and for_us else 0.0
        self._status = ""
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            with suppress(OSError):
                self._socket.connect(f"\0{address[1:]}" if address.startswith("@") else address)

    @property
    def heard(self) -> bool:
        """Whether somebody listens."""
        return self._socket is not None

    def watch(self) -> None:
        """Pets the watchdog from the running loop from now on, as often as it wants."""
        if self._socket is not None and self._every:
            self._say("WATCHDOG=1")
            asyncio.get_running_loop().call_later(self._every, self.watch)

    def ready(self, status: str) -> None:
        """The daemon serves, or serves again."""
        self._status = status
        self._say("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """In one line, how it is; said only where it changed."""
        if status != self._status:
            self._status = status
            self._say(f"STATUS={status}")

    def reloading(self) -> None:
        """`ready` must follow."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._say("STOPPING=1", "STATUS=stopping")

    def _say(self, *words: str) -> None:
        if self._socket is not None:
            with suppress(OSError):  # a manager that does not listen is none of our business
                self._socket.send("\n".join(words).encode())
