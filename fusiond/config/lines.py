"""On which line of a TOML text each key stands; `tomllib` does not say.

Made for texts that `tomllib` has accepted: what it refuses comes out as nonsense here, but ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

Path = tuple[str, ...]

_TOKEN = re.compile(
    r"""(?P<skip>[ \t\r]+|\#[^\n]*)
      |(?P<text>\"{3}(?:\\.|[^\\])*?\"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*')
      |(?P<word>[^\s"'\[\]{}=,.\#]+)
      |(?P<mark>[\[\]{}=,.\n])""",
    re.DOTALL | re.VERBOSE,
)


def key_lines(text: str) -> dict[Path, int]:
    """The line, from 1, on which each key and table is first named; elements of an array share its path."""
    scan = _Scan()
    line = 1
    for token in _TOKEN.finditer(text):
        if token.lastgroup != "skip":
            scan.take(token[0], token.lastgroup == "mark", line)
        line += token[0].count("\n")
    return scan.lines


@dataclass
class _Level:
    """One bracket deep: `base` is the path that its keys continue, `path` that of the value being read."""

    kind: str  # "" for the file itself, else the bracket that opened it
    base: Path
    path: Path


@dataclass
class _Scan:
    """Reads tokens. Where a key may stand `in_key` is true and its dotted parts gather in `parts`."""

    lines: dict[Path, int] = field(default_factory=dict)
    levels: list[_Level] = field(default_factory=lambda: [_Level("", (), ())])
    parts: Path = ()
    in_key: bool = True
    in_header: bool = False

    def take(self, token: str, is_mark: bool, line: int) -> None:
        if not is_mark:
            if self.in_key:
                self.parts += (_plain(token),)
        elif self.in_key:
            self._mark_in_key(token, line)
        else:
            self._mark_in_value(token)

    def _mark_in_key(self, mark: str, line: int) -> None:
        level = self.levels[-1]
        if mark == "=":
            level.path = level.base + self.parts
            self._record(level.path, line)
            self.in_key = False
        elif mark == "[" and not level.kind:
            self.in_header = True
        elif mark == "]" and self.in_header:
            level.base = self.parts or level.base  # the second bracket of [[…]] brings no parts
            self._record(level.base, line)
        elif mark == "\n" and not level.kind:
            self.in_header = False
        elif mark == "}":
            self._close()
            return
        else:
            return
        if mark != "[":
            self.parts = ()

    def _mark_in_value(self, mark: str) -> None:
        level = self.levels[-1]
        if mark in "{[":
            self.levels.append(_Level(mark, level.path, level.path))
            self.in_key = mark == "{"
        elif mark in "}]":
            self._close()
        elif (mark == "," and level.kind == "{") or (mark == "\n" and not level.kind):
            self.in_key = True

    def _close(self) -> None:
        if len(self.levels) > 1:
            self.levels.pop()
        self.in_key = False
        self.parts = ()

    def _record(self, path: Path, line: int) -> None:
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)


def _plain(key: str) -> str:
    """A key without its quotes."""
    if key.startswith("'"):
        return key.strip("'")
    if not key.startswith('"'):
        return key
    import tomllib

    try:
        return str(tomllib.loads(f"key = {key}")["key"])
    except tomllib.TOMLDecodeError:
        return key
