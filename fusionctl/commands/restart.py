"""`fusionctl restart`: replace one actor, or all, gracefully."""

from __future__ import annotations

import click
import msgspec

from fusionctl import orders, output, render
from fusionctl.arguments import ACTOR
from fusionctl.invocation import Invocation
from fusiond.protocol.control import Health, Restart


@click.command(epilog="Example: fusionctl restart llm.0")
@click.argument("actor", type=ACTOR, required=False)
@click.pass_obj
def restart(invocation: Invocation, actor: str | None) -> int:
    """Replace ACTOR, or without one every actor of the tree, and wait until the replacements are ready.

    What they are doing is finished, by them or by their replacements. A failed actor is tried again at once.
    """
    daemon = orders.reach(invocation, start=True)
    if daemon.started and actor is None:
        click.echo("started")
        return 0
    tree = orders.give(daemon, "restart", msgspec.msgpack.encode(Restart(actor)), Health)
    names = [actor] if actor else [each.name for each in tree.actors]
    broken = [each for each in tree.actors if each.name in names and each.state not in ("ready", "standby")]
    if not broken:
        click.echo(f"restarted: {', '.join(names)}")
        return 0
    for each in broken:
        why = f": {render.cause(each.last_exit)}" if each.last_exit else ""
        output.complain(f"{each.name} is in {each.state}{why} — see: fusionctl logs {each.name}")
    return 1
