"""`fusionctl health`: one look at the tree, or a live view of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import click

from fusionctl import orders, output, render
from fusionctl.invocation import Invocation
from fusiond.errors import Denied, FusionError, Unreachable
from fusiond.protocol.control import Health

_DOWN = {"status": "down"}


@click.command(epilog="Example: fusionctl health --watch 1")
@click.option("--watch", type=click.FloatRange(min=0.05), metavar="SECONDS", help="Look again every SECONDS.")
@click.option("--json", "as_json", is_flag=True, help="The state as JSON; with --watch one document a line.")
@click.pass_obj
def health(invocation: Invocation, watch: float | None, as_json: bool) -> int:
    """Show each process of the tree: what it does, when it was last seen, what happened to it.

    Exits 0 if all is well, 1 if anything is degraded, 4 if no daemon answers.
    """
    if watch is not None:
        _follow(invocation, watch, as_json)
    try:
        tree = _look(invocation)
    except Unreachable:
        if as_json:
            output.put_json(_DOWN)
        raise
    if as_json:
        output.put_json(tree)
    else:
        output.put(render.health(tree, datetime.now(UTC), output.painter(), output.columns()))
    return 0 if tree.status == "healthy" else 1


def _look(invocation: Invocation) -> Health:
    return orders.reach(invocation, start=False).health


def _looks(invocation: Invocation, seconds: float) -> Iterator[Health | FusionError]:
    """A look every `seconds`, without end; a daemon that is away is no reason to stop looking."""
    while True:
        began = time.monotonic()
        try:
            yield _look(invocation)
        except (Unreachable, Denied) as error:
            yield error
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))


def _follow(invocation: Invocation, seconds: float, as_json: bool) -> None:
    """The live view; Ctrl-C leaves it."""
    from fusionctl.screen import Screen

    interrupted = False

    def interrupt(*_: object) -> None:
        """Remembered too: raised in the middle of a library's tidying up, it would be forgotten."""
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    before: Health | None = None
    with Screen(live=output.on_terminal() and not as_json) as screen:
        for seen in _looks(invocation, seconds):
            if interrupted:
                raise KeyboardInterrupt
            if as_json:
                output.put_json(_DOWN if isinstance(seen, FusionError) else seen)
            elif isinstance(seen, FusionError):
                screen.show([output.painter()("down", "bad"), str(seen)])
            else:
                now, paint = datetime.now(UTC), output.painter()
                screen.show(render.health_again(seen, before, now, paint, output.columns()))
                before = seen
