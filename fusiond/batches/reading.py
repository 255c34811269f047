"""The items of a file, in order. Survey and items go through the same loop, so they cannot disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import msgspec

from fusiond.batches.cutting import MAX_LINE
from fusiond.batches.jsonl import is_item, json_line
from fusiond.batches.text import BadLine, Content, text_line
from fusiond.errors import UsageError

Format = Literal["text", "jsonl"]
OpenLines = Callable[[], Iterable[bytes]]
"""Gives the lines of the file from its beginning, with or without their ends, each time it is called."""

BOM = "\ufeff"


class Item(msgspec.Struct, frozen=True):
    """One request of a batch. `n` counts from 0; `body`, a JSON object, is to be posted to `url`."""

    n: int
    id: str
    url: str
    body: bytes


class Problem(msgspec.Struct, frozen=True):
    """Why `line`, counted from 1, is no item; line 0 is the file as a whole."""

    line: int
    why: str


def items(
    open_lines: OpenLines, *, format: Format | Literal["auto"] = "auto", system: str | None = None
) -> Iterator[Item]:
    """The items of a file in which `survey` found nothing wrong.

    Raises UsageError at a bad line: the file is another one by now.
    """
    if format == "auto":
        format = found_format(open_lines)
    for n, (number, found) in enumerate(contents(open_lines, format, system)):
        if isinstance(found, Problem):
            raise UsageError(
                f"line {number}: {found.why}", advice="the file has changed since it was checked; begin again"
            )
        yield Item(n, *found)


def found_format(open_lines: OpenLines) -> Format:
    """JSONL if the first line that is not blank is an object with `prompt` or `custom_id`, else text."""
    for _, text in _texts(open_lines()):
        return "jsonl" if isinstance(text, str) and is_item(text) else "text"
    return "text"


def contents(
    open_lines: OpenLines, format: Format, system: str | None
) -> Iterator[tuple[int, Content | Problem]]:
    """What each line that is not blank says, with its number from 1."""
    read = text_line if format == "text" else json_line
    for number, text in _texts(open_lines()):
        if isinstance(text, Problem):
            yield number, text
            continue
        try:
            yield number, read(text, number, system)
        except BadLine as bad:
            yield number, Problem(number, str(bad))


def _texts(lines: Iterable[bytes]) -> Iterator[tuple[int, str | Problem]]:
    """The lines that are not blank, without their ends."""
    for number, with_end in enumerate(lines, 1):
        line = with_end.rstrip(b"\r\n")
        if len(line) > MAX_LINE:
            yield number, Problem(number, f"longer than {MAX_LINE // 2**20} MiB")
            continue
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            yield (
                number,
                Problem(number, f"not UTF-8 (byte {error.start} is 0x{line[error.start]:02x})"),
            )
            continue
        if number == 1:
            text = text.removeprefix(BOM)
        if "\0" in text:
            yield number, Problem(number, "a NUL byte is in it")
        elif text and not text.isspace():
            yield number, text
