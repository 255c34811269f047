"""`fusionctl events`: what happened in the tree, read from its file; it works while the tree is broken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain
from typing import Any

import click
import msgspec

from fusionctl import homes, output, render
from fusionctl.invocation import Invocation
from fusionctl.tail import Tail, older
from fusiond.protocol.control import Event

_EVERY = 0.1  # seconds between two looks at the file
_ALWAYS: dict[str, Any] = {"time": "", "kind": "", "actor": "", "pid": None, "detail": ""}


@click.command(epilog="Example: fusionctl events -f")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on.")
@click.option("--audit", is_flag=True, help="Only what somebody ordered, and what was refused.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document a line.")
@click.pass_obj
def events(invocation: Invocation, follow: bool, audit: bool, as_json: bool) -> None:
    """Show what happened: deaths and their causes, replacements and how long they took, orders, refusals."""
    path = homes.recorded(invocation.home).events
    tail, paint = Tail(path), output.painter()
    for line, happened in _decoded(chain(older(path), _lines(tail, follow))):
        if audit and not is_audit(happened):
            continue
        if as_json:
            output.put_json(_ALWAYS | msgspec.json.decode(line))
        else:
            click.echo(render.event(happened, paint), color=True)


def is_audit(happened: Event) -> bool:
    """Somebody ordered it, or something was refused: not what the tree did by itself."""
    return happened.uid is not None or happened.kind == "reloaded"


def _lines(tail: Tail, follow: bool) -> Iterator[str]:
    yield from tail.lines()
    while follow:
        time.sleep(_EVERY)
        yield from tail.lines()


def _decoded(lines: Iterator[str]) -> Iterator[tuple[str, Event]]:
    """Each line with its event. One that is none, torn by a full disk, is passed over."""
    for line in lines:
        try:
            yield line, msgspec.json.decode(line, type=Event)
        except msgspec.DecodeError:
            continue
