"""How much room text takes on a terminal. Pure."""

from __future__ import annotations

import re
import unicodedata

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_UNSAFE = {code: None for code in (*range(32), 127, *range(128, 160)) if chr(code) not in "\n\t"}


def safe(text: str) -> str:
    """Without control characters: what a model writes may not move the cursor or rename the window."""
    return text.translate(_UNSAFE)


def width(char: str) -> int:
    """Columns that a character takes: 0 for combining ones, 2 for wide ones."""
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def taken(line: str) -> int:
    """Columns that a line takes; styles take none."""
    return sum(map(width, _STYLE.sub("", line)))


def cut(line: str, columns: int) -> str:
    """The beginning of `line` that fits into `columns`; styles take no room and are ended."""
    shown, used, at = [], 0, 0
    while at < len(line):
        style = _STYLE.match(line, at)
        if style:
            shown.append(style.group())
            at = style.end()
            continue
        used += width(line[at])
        if used > columns:
            return "".join(shown) + ("\x1b[0m" if "\x1b" in line else "")
        shown.append(line[at])
        at += 1
    return line


def end_of(text: str, columns: int) -> tuple[int, int]:
    """Where the cursor stands after `text` was written from column 0: rows further down, and the column."""
    row = column = 0
    for char in text:
        if char == "\n":
            row, column = row + 1, 0
        elif char == "\t":
            column = min(column // 8 * 8 + 8, columns - 1)
        else:
            needed = width(char)
            if column + needed > columns:
                row, column = row + 1, 0
            column += needed
    return row, column
