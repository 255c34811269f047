"""A file cut into lines, in memory that does not grow with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import BinaryIO

MAX_LINE = 32 * 2**20
"""The longest line that may be an item, in bytes, its end not counted."""

_KEPT = MAX_LINE + len(b"\r\n")
_SKIPPED_AT_ONCE = 2**16


def lines(file: BinaryIO, size: int | None) -> Iterator[bytes]:
    """The lines of the first `size` bytes from where `file` stands, with their ends; None: of all of it.

    What is appended meanwhile is left alone. Of a line longer than `MAX_LINE` only so much comes as shows that it is.
    """
    left = sys.maxsize if size is None else size
    while line := file.readline(min(left, _KEPT)):
        left -= len(line)
        yield line
        if len(line) == _KEPT and not line.endswith(b"\n"):
            left -= _skip_rest(file, left)


def _skip_rest(file: BinaryIO, left: int) -> int:
    """How many bytes it took to come to the end of the line."""
    skipped = 0
    while piece := file.readline(min(left - skipped, _SKIPPED_AT_ONCE)):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped
