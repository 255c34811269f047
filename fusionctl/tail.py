"""Reads files that others append to, and goes on reading through truncation and rotation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 16  # bytes


class Tail:
    """The lines of one file, each once it is complete. A file that is not there (yet) has none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def lines(self) -> Iterator[str]:
        """The lines that have come since the last call; the first call gives all there are."""
        while True:
            if self._file is None and not self._open():
                return
            yield from self._read()
            if not self._replaced():
                return
            yield from self._read()  # what was written between our reading and the rotation
            self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._rest = b""

    def _open(self) -> bool:
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError:
            return False
        return True

    def _read(self) -> Iterator[str]:
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)  # somebody emptied it
            self._rest = b""
        while chunk := self._file.read(_CHUNK):
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")

    def _replaced(self) -> bool:
        """Another file stands under our file's name."""
        assert self._file is not None
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return there.st_ino != os.fstat(self._file.fileno()).st_ino


def older(path: Path) -> Iterator[str]:
    """The lines of the file that was rotated away last, `NAME.1`."""
    yield from Tail(path.with_name(path.name + ".1")).lines()
