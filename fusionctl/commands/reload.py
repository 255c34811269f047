"""`fusionctl reload`: the configuration, read again."""

from __future__ import annotations

import click

from fusionctl import orders
from fusionctl.invocation import Invocation
from fusiond.protocol.control import ReloadReport


@click.command(epilog="Example: fusionctl config check && fusionctl reload")
@click.pass_obj
def reload(invocation: Invocation) -> None:
    """Read the configuration again and replace the actors that it changes. A bad one changes nothing."""
    daemon = orders.reach(invocation, start=True)
    if daemon.started:
        click.echo("started with the configuration as it is")
        return
    report = orders.give(daemon, "reload", b"", ReloadReport)
    click.echo(
        f"reloaded, replaced: {', '.join(report.replaced)}"
        if report.replaced
        else "reloaded, nothing changed"
    )
