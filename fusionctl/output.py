"""Where output goes, and what the place can show: a terminal is drawn on, a pipe gets plain text."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

import click
import msgspec

from fusionctl.render import Paint, coloured, plain


def on_terminal() -> bool:
    """Standard output is a terminal that understands being drawn on."""
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def columns() -> int:
    """The width of the terminal, 0 where there is none."""
    return os.get_terminal_size(sys.stdout.fileno()).columns if on_terminal() else 0


def painter() -> Paint:
    """Colour on a terminal, unless `NO_COLOR` is set (https://no-color.org)."""
    return painter_for(sys.stdout)


def painter_for(stream: TextIO | None) -> Paint:
    """The same for standard error, or another stream."""
    drawn = stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    return coloured if drawn and not os.environ.get("NO_COLOR") else plain


def put(lines: Iterable[str]) -> None:
    """The answer, on standard output."""
    for line in lines:
        click.echo(line, color=True)


def put_json(document: object) -> None:
    """One JSON document on a line of its own."""
    click.echo(msgspec.json.encode(document).decode())


def complain(line: str) -> None:
    """One line about what is wrong, on standard error."""
    click.echo(f"error: {line}", err=True)
