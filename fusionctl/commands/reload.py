"""`fusionctl reload`: the configuration, read again."""

from __future__ import annotations

import time

import click

from fusionctl import orders
from fusionctl.invocation import Invocation
from fusiond.protocol.control import About, Health, ReloadReport

_EVERY = 0.05  # seconds between two looks whether the new code answers


@click.command(epilog="Example: fusionctl config check && fusionctl reload")
@click.pass_obj
def reload(invocation: Invocation) -> None:
    """Read the configuration again and replace the actors that it changes. A bad one changes nothing.

    Where the installed code is another by now, the daemon drains and begins anew with it; what waits is not lost.
    """
    daemon = orders.reach(invocation, start=True)
    if daemon.started:
        click.echo("started with the configuration as it is")
        return
    began = orders.give(daemon, "about", b"", About).started
    report = orders.give(daemon, "reload", b"", ReloadReport)
    if report.anew:
        while (about := orders.give(daemon, "about", b"", About)).started == began:
            time.sleep(_EVERY)
        orders.give(daemon, "wait", b"", Health)
        click.echo(f"reloaded with new code, everything replaced: fusiond {about.version}, pid {about.pid}")
        return
    click.echo(
        f"reloaded, replaced: {', '.join(report.replaced)}"
        if report.replaced
        else "reloaded, nothing changed"
    )
