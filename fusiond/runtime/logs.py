"""Where what processes say goes: to the journal under systemd, otherwise to a file for each actor, rotated.

Neither can block whoever writes: files are files, and what the journal does not take at once is dropped. Standard
output and error (stack dumps, words of C libraries) go to the file in either case; under systemd the supervisor passes
on to the journal what it finds there when the process has ended.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from fusiond.actors.life import write_to
from fusiond.paths import JOURNAL_MARKER
from fusiond.runtime.journal import stamp
from fusiond.transport.ids import current_request

JOURNAL = "/run/systemd/journal/socket"
IDENTIFIER = "fusiond"
ROTATE_AT = 8 * 1024 * 1024
"""Bytes; one older file is kept beside it."""

_PRIORITY = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}  # sd-daemon(3)
_LONGEST = 64 * 1024  # bytes of one message to the journal
_TAIL = 64 * 1024  # bytes of a file that are passed on at most


def under_systemd(env: Mapping[str, str]) -> bool:
    """Whether our standard error is the journal (`$JOURNAL_STREAM`, systemd.exec(5))."""
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return env.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}" and os.path.exists(JOURNAL)  # noqa: PTH110


# --- in every process ------------------------------------------------------------------------------------------------


class _Lines(logging.Formatter):
    """`2026-11-22T13:00:00.123Z INFO    message [request 0193…]`, the last where it is about a request."""

    converter = staticmethod(time.gmtime)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 — logging's name
        line = super().formatMessage(record)
        request = current_request.get()
        return f"{line} [request {request.hex()}]" if request else line


class JournalHandler(logging.Handler):
    """Sends records to the journal (systemd.io/JOURNAL_NATIVE_PROTOCOL) in the name of one actor."""

    def __init__(self, actor: str) -> None:
        super().__init__()
        self._actor = actor
        self._socket = _journal_socket()

    def emit(self, record: logging.LogRecord) -> None:
        """Never blocks and never raises."""
        with suppress(Exception):
            fields = {"FUSION_REQUEST": request.hex()} if (request := current_request.get()) else {}
            priority = _PRIORITY.get(record.levelname, 6)
            self._socket.send(_entry(self._actor, priority, self.format(record), fields))


def _journal_socket() -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    opened.setblocking(False)
    with suppress(OSError):
        opened.connect(JOURNAL)
    return opened


def _entry(actor: str, priority: int, message: str, fields: Mapping[str, str]) -> bytes:
    text = message.encode(errors="replace")[:_LONGEST]
    head = {
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": f"{IDENTIFIER}/{actor}",
        "FUSION_ACTOR": actor,
        **fields,
    }
    lines = "".join(f"{name}={value}\n" for name, value in head.items()).encode()
    return lines + b"MESSAGE\n" + len(text).to_bytes(8, "little") + text + b"\n"


def start_logging(level: str) -> None:
    """To standard error, in lines."""
    lines = logging.StreamHandler()
    lines.setFormatter(_Lines("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[lines], force=True)
    logging.getLogger("asyncio").setLevel("WARNING")
    logging.getLogger("httpx").setLevel("WARNING")


def log_to_journal(actor: str) -> None:
    """Instead of to standard error."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(JournalHandler(actor))


# --- in the supervisor -----------------------------------------------------------------------------------------------


def _unit() -> str:
    """What JOURNAL_MARKER holds: the unit that we are part of, the system's or a user's."""
    groups = Path("/proc/self/cgroup").read_text().strip().split("/")
    name = next((part for part in reversed(groups) if part.endswith(".service")), "fusiond.service")
    return f"--user {name}" if any(part.startswith("user@") for part in groups) else name


class Logs:
    """The files of a folder, one for each actor. `journal`: what is logged goes to systemd's."""

    def __init__(self, folder: Path, journal: bool) -> None:
        self.folder = folder
        self.journal = _journal_socket() if journal else None
        marker = folder / JOURNAL_MARKER
        with suppress(OSError):  # a full disk
            if journal:
                marker.write_text(_unit())
                marker.chmod(0o640)
            else:
                marker.unlink(missing_ok=True)

    def open(self, actor: str) -> int:
        """A descriptor to append with, not inherited. Raises OSError."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(self.path(actor), flags, 0o600)

    def path(self, actor: str) -> Path:
        return self.folder / f"{actor}.log"

    def note(self, actor: str, line: str) -> None:
        """A warning of the supervisor's own among an actor's lines."""
        if self.journal is not None:
            self._pass_on(actor, [line])
            return
        with suppress(OSError), self.path(actor).open("a") as file:
            file.write(f"{stamp()} WARNING {line}\n")

    def since(self, actor: str, offset: int, most: int = _TAIL) -> list[str]:
        """The lines of its file from a byte on, the last `most` bytes of them."""
        try:
            with self.path(actor).open("rb") as file:
                file.seek(max(offset, file.seek(0, os.SEEK_END) - most))
                return file.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return []

    def ended(self, actor: str, offset: int) -> None:
        """Passes on to the journal what a process has written to standard error."""
        if self.journal is not None:
            self._pass_on(actor, self.since(actor, offset))

    def _pass_on(self, actor: str, lines: Iterable[str]) -> None:
        assert self.journal is not None
        for line in lines:
            with suppress(OSError):
                self.journal.send(_entry(actor, _PRIORITY["WARNING"], line, {}))

    def rotate_own(self, name: str) -> None:
        """The same for the log of this process, if its standard error goes there."""
        with suppress(OSError):
            if (
                os.path.samestat(self.path(name).stat(), os.fstat(2))
                and (fd := self.rotate(name)) is not None
            ):
                write_to(fd)

    def rotate(self, actor: str) -> int | None:
        """Puts a file that has become too long aside; returns the descriptor of a new one, None if it has not.

        Raises OSError.
        """
        path = self.path(actor)
        try:
            if path.stat().st_size < ROTATE_AT:
                return None
        except FileNotFoundError:
            return None
        path.replace(path.with_name(f"{path.name}.1"))
        return self.open(actor)
