"""Ids given twice, found in 16 bytes for each id.

Of an id only a hash is kept. Hashes may be equal by chance, so whoever asks looks at the lines once more.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

BUCKETS = 64
"""Only one is turned into Python objects at a time."""


class Repeats:
    """Takes each id with its line, and then knows which lines seem to repeat an earlier one's id."""

    def __init__(self) -> None:
        self._hashes = [array("q") for _ in range(BUCKETS)]
        self._lines = [array("q") for _ in range(BUCKETS)]

    def add(self, id: str, line: int) -> None:
        key = hash(id)
        bucket = key % BUCKETS
        self._hashes[bucket].append(key)
        self._lines[bucket].append(line)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(line, the first line whose id has the same hash), bucket by bucket."""
        for hashes, lines in zip(self._hashes, self._lines, strict=True):
            if len(set(hashes)) == len(hashes):
                continue
            first: dict[int, int] = {}
            for key, line in zip(hashes, lines, strict=True):
                if (earlier := first.setdefault(key, line)) != line:
                    yield line, earlier
