"""All that is wrong with a file, known before anything of it is sent."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Literal

import msgspec

from fusiond.batches.jsonl import quoted
from fusiond.batches.reading import Format, Item, OpenLines, Problem, contents, found_format
from fusiond.batches.repeats import Repeats
from fusiond.batches.text import Content

MAX_PROBLEMS = 20
"""So many are told in full; the others are counted."""


class Survey(msgspec.Struct, frozen=True):
    """What a file holds. Good is a file without problems.

    `total`: its items. `digest`: SHA-256, in hexadecimal, of their ids, URLs and bodies in order: the same items have
    the same digest whatever the file's name, format or line ends. `problems`: the first `MAX_PROBLEMS` by line, out of
    `problem_count`; a line has one at most.
    """

    total: int
    format: Format
    digest: str
    problems: list[Problem]
    problem_count: int


def survey(
    open_lines: OpenLines, *, format: Format | Literal["auto"] = "auto", system: str | None = None
) -> Survey:
    """Reads the whole file, in memory that hardly grows with it: 16 bytes an item.

    `open_lines` is called up to three times. `system` goes to text and short lines, never to OpenAI's. Raises only what
    `open_lines` raises.
    """
    if format == "auto":
        format = found_format(open_lines)
    digest = Digest()
    repeats = Repeats()
    problems: list[Problem] = []
    total = bad = 0
    for number, found in contents(open_lines, format, system):
        if isinstance(found, Problem):
            bad += 1
            if bad <= MAX_PROBLEMS:
                problems.append(found)
            continue
        total += 1
        repeats.add(found.id, number)
        digest.add(*found)
    repeated, count = _repeated(open_lines, format, repeats)
    if not total and not bad:
        return Survey(
            0, format, digest.hex(), [Problem(0, "the file is empty: no line has anything in it")], 1
        )
    first = sorted([*problems, *repeated], key=lambda problem: problem.line)[:MAX_PROBLEMS]
    return Survey(total, format, digest.hex(), first, bad + count)


class Digest:
    """SHA-256 of items in order, such that no two sequences of items are the same bytes."""

    def __init__(self) -> None:
        self._sum = sha256()

    def add(self, id: str, url: str, body: bytes) -> None:
        self._sum.update(f"{len(id)} {len(url)} {len(body)} {id}{url}".encode() + body)

    def of(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, added as they pass."""
        for item in items:
            self.add(item.id, item.url, item.body)
            yield item

    def hex(self) -> str:
        return self._sum.hexdigest()


def _repeated(open_lines: OpenLines, format: Format, repeats: Repeats) -> tuple[list[Problem], int]:
    """The first lines that repeat an id, and how many there are."""
    count = sum(1 for _ in repeats)
    if not count:
        return [], 0
    pairs = heapq.nsmallest(MAX_PROBLEMS, repeats)
    ids = _ids(open_lines, format, {line for pair in pairs for line in pair})
    found = [
        Problem(line, f"the id {quoted(ids[line])} was given on line {earlier} already")
        for line, earlier in pairs
        if line in ids and ids[line] == ids.get(earlier)
    ]
    return found, count - (len(pairs) - len(found))


def _ids(open_lines: OpenLines, format: Format, wanted: Iterable[int]) -> dict[int, str]:
    last = max(wanted)
    ids = {}
    for number, found in contents(open_lines, format, None):
        if number in wanted and isinstance(found, Content):
            ids[number] = found.id
        if number >= last:
            break
    return ids
