"""What the options before the command say."""

from __future__ import annotations

from typing import NamedTuple

import click


class Invocation(NamedTuple):
    """`home`: the folder given with `--home`, None without.

    `autostart`: a daemon may be started or replaced.
    """

    home: str | None
    autostart: bool


def notice(line: str) -> None:
    """One line for the person, on standard error: standard output is for answers."""
    click.echo(line, err=True)
