"""A few lines on a terminal that are drawn again in place."""

from __future__ import annotations

import shutil
import sys
from types import TracebackType
from typing import Self

import click

from fusionctl.text import cut

_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"


class Screen:
    """Shows lines; the next ones take their place.

    With `live` false they are printed one block after the other.
    """

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._rows = 0
        self._blocks = 0

    def __enter__(self) -> Self:
        if self._live:
            sys.stdout.write(_HIDE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            sys.stdout.write(_SHOW)
            sys.stdout.flush()

    def show(self, lines: list[str]) -> None:
        """Replaces what was shown before.

        What does not fit the terminal is cut: a wrapped line could not be redrawn.
        """
        if not self._live:
            click.echo("\n".join(lines if not self._blocks else ["", *lines]))
            self._blocks += 1
            return
        columns, rows = shutil.get_terminal_size()
        fitting = [cut(line, columns) for line in lines[: max(1, rows - 1)]]
        up = f"\x1b[{self._rows}A" if self._rows else ""
        sys.stdout.write(f"{up}\r" + "".join(f"{line}\x1b[K\n" for line in fitting) + "\x1b[J")
        sys.stdout.flush()
        self._rows = len(fitting)
