"""What happened, one typed event at a time: a line of JSON in a file, and to whoever subscribed.

The file is written by the supervisor itself, so that it tells what happened while everything else was broken.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from fusiond.protocol.control import Event

_ROTATE_AT = 8 * 1024 * 1024  # bytes; one older file is kept beside it


def stamp(seconds: float | None = None) -> str:
    """ISO 8601 in UTC with milliseconds; now, or for `seconds` since the epoch."""
    at = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Journal:
    """Appends events to `path`; a disk that does not take them never stops the supervisor."""

    def __init__(self, path: Path, mode: int = 0o600) -> None:
        self._path = path
        self._mode = mode
        self._encode = msgspec.json.Encoder().encode
        self._sinks: list[Callable[[Event], None]] = []
        self._fd: int | None = None
        self._size = 0

    def subscribe(self, sink: Callable[[Event], None]) -> Callable[[], None]:
        """Calls `sink` with each event from now on; returns how to end that."""
        self._sinks.append(sink)
        return lambda: self._sinks.remove(sink)

    def record(
        self,
        kind: str,
        actor: str,
        *,
        pid: int | None = None,
        generation: int | None = None,
        detail: str = "",
        ms: float | None = None,
        uid: int | None = None,
    ) -> None:
        """Notes one event. `uid`: who ordered it, or was refused."""
        rounded = None if ms is None else round(ms, 1)
        event = Event(
            time=stamp(),
            kind=kind,
            actor=actor,
            pid=pid,
            generation=generation,
            detail=detail,
            ms=rounded,
            uid=uid,
        )
        try:
            self._append(self._encode(event) + b"\n")
        except OSError:  # a full disk: subscribers still hear of it
            self.close()
        for sink in tuple(self._sinks):
            sink(event)

    def _append(self, line: bytes) -> None:
        if self._fd is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o600)
            os.fchmod(self._fd, self._mode)
            self._size = os.fstat(self._fd).st_size
        os.write(self._fd, line)
        self._size += len(line)
        if self._size > _ROTATE_AT:
            self.close()
            self._path.replace(self._path.with_suffix(".jsonl.1"))

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
