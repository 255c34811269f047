"""`fusionctl start`: the daemon, running and ready when this returns."""

from __future__ import annotations

import os
from pathlib import Path

import click

from fusionctl import autostart, holder, homes, output
from fusionctl.invocation import Invocation, notice
from fusionctl.render import cause, count, span
from fusiond.protocol.control import Health


@click.command(epilog="Example: fusionctl start")
@click.option("--foreground", is_flag=True, help="Run in the foreground, as a service manager wants it.")
@click.pass_obj
def start(invocation: Invocation, foreground: bool) -> int:
    """Start the daemon and wait until it is ready. One that runs already is left as it is.

    Exits 1 if an actor does not start; what it said is shown.
    """
    if foreground:
        _become_daemon(invocation)
    for paths in homes.candidates(invocation.home):
        running = autostart.running(paths, replace=True, notice=notice)
        if running is not None:
            up = span(running.health.supervisor.uptime_s)
            click.echo(f"already running: pid {running.holder.pid}, up {up}")
            _report_failures(autostart.settled(running).health)
            return 0
    daemon = autostart.launch(homes.candidates(invocation.home)[0], notice=notice)
    how = f"pid {daemon.holder.pid}, {count(len(daemon.health.actors), 'process', 'processes')}"
    click.echo(f"ready: {how}" if daemon.health.status == "healthy" else f"started, degraded: {how}")
    return _report_failures(daemon.health)


def _report_failures(tree: Health) -> int:
    failed = [actor for actor in tree.actors if actor.state in ("failed", "backoff")]
    for actor in failed:
        why = cause(actor.last_exit) if actor.last_exit else "it did not start"
        output.complain(f"{actor.name} does not start: {why} — see: fusionctl logs {actor.name}")
    return 1 if failed else 0


def _become_daemon(invocation: Invocation) -> None:
    """Replaces this process by the daemon."""
    paths = homes.candidates(invocation.home)[0]
    if (process := holder.find(paths)) is not None and process.ours:
        autostart.running(paths, replace=True, notice=notice)
    command = autostart.command(paths)
    environment = autostart.environment()
    os.chdir(Path("/"))
    os.execve(command[0], command, environment)  # noqa: S606 — the daemon itself
