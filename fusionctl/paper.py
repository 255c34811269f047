"""Where an answer appears.

A stream may have to begin anew: `reset` says that what came before is void. On a terminal that is no harm:
the answer is written as it comes, and what is void is wiped off and written again. Whatever reads a pipe
cannot be made to forget, and a program that got half an answer twice would never know. So a pipe, and
`--no-stream`, get an answer only when it can no longer become void: the whole of it, at its end.
"""

from __future__ import annotations

import shutil
import sys
from typing import Protocol

import click

from fusionctl.invocation import notice
from fusionctl.text import end_of, safe
from fusiond.protocol.chat import ChatChunk


class Paper(Protocol):
    """Takes one answer after the other."""

    def write(self, chunk: ChatChunk) -> None:
        """The next piece of the answer."""

    def end(self) -> None:
        """The answer is whole."""

    def tear(self) -> None:
        """The answer ends here, unfinished."""

    def notice(self, line: str) -> None:
        """Something to tell the person while the answer comes; it does not become part of it."""


class Whole:
    """Writes an answer at its end. With `silent` not at all: somebody else puts it into a document."""

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent
        self._text = ""

    def write(self, chunk: ChatChunk) -> None:
        self._text = chunk.text if chunk.reset else self._text + chunk.text

    def end(self) -> None:
        if not self._silent:
            text = safe(self._text) if sys.stdout.isatty() else self._text
            click.echo(text, nl=not text.endswith("\n"))
        self._text = ""

    def tear(self) -> None:
        self._text = ""

    def notice(self, line: str) -> None:
        notice(line)


class Live:
    """Writes an answer on the terminal as it comes, from the beginning of a line on."""

    def __init__(self) -> None:
        self._text = ""
        self._late: list[str] = []

    def write(self, chunk: ChatChunk) -> None:
        text = safe(chunk.text)
        if chunk.reset:
            self._wipe()
            self._text = ""
        self._text += text
        self._put(text)

    def end(self) -> None:
        if self._text and not self._text.endswith("\n"):
            self._put("\n")
        self._text = ""
        while self._late:
            notice(self._late.pop(0))

    def tear(self) -> None:
        self.end()

    def notice(self, line: str) -> None:
        """Above the answer, which is written again below; after it, where it fills the screen already."""
        if not sys.stderr.isatty() or not self._text:
            notice(line)
        elif self._wipe():
            notice(line)
            self._put(self._text)
        else:
            self._late.append(line)
            self._put(self._text)

    def _wipe(self) -> bool:
        """Takes the answer off the screen; returns whether all of it was still there, and not scrolled away."""
        columns, rows = shutil.get_terminal_size()
        down, _ = end_of(self._text, columns)
        up = min(down, rows - 1)
        self._put((f"\x1b[{up}A" if up else "") + "\r\x1b[J")
        return down < rows

    def _put(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
