"""`fusionctl stop`: the daemon and all of its processes, gone when this returns."""

from __future__ import annotations

import os
import signal

import click
import msgspec

from fusionctl import autostart, control, holder, homes
from fusionctl.holder import Holder
from fusionctl.invocation import Invocation, notice
from fusiond.errors import FusionError, ProtocolMismatch
from fusiond.paths import Paths
from fusiond.protocol.control import Stopping

_PATIENCE = 60.0  # seconds for draining; the configuration's grace is 5 by default


@click.command(epilog="Example: fusionctl stop")
@click.pass_obj
def stop(invocation: Invocation) -> None:
    """Let the daemon finish what it can within its grace, end it, and wait until nothing of it is left.

    A supervisor that does not answer is killed. Where none runs, that is fine too.
    """
    for paths in homes.candidates(invocation.home):
        if (process := holder.find(paths)) is not None:
            _stop(paths, process)
            return
    click.echo("not running")


def _stop(paths: Paths, process: Holder) -> None:
    if not _asked(paths, process):
        if not process.ours:
            raise FusionError(autostart.hung(process), advice="ask whoever runs it to end it")
        notice(f"{autostart.hung(process)}: killing it")
        holder.end(process)
    elif not process.wait(_PATIENCE):
        notice(f"the daemon (pid {process.pid}) has not ended after {_PATIENCE:g} s: killing it")
        holder.end(process)
    click.echo(f"stopped: pid {process.pid}")


def _asked(paths: Paths, process: Holder) -> bool:
    """The supervisor has taken the order, or has ended meanwhile."""
    end = process.pidfd()
    if end is None:
        return True
    try:
        answer = control.ask(paths.supervisor_socket, "stop", timeout=autostart.SILENCE, end=end)
    except ProtocolMismatch:  # a daemon of another version; SIGTERM it understands
        os.kill(process.pid, signal.SIGTERM)
        return True
    finally:
        os.close(end)
    if answer is not None:
        msgspec.msgpack.decode(answer, type=Stopping)
    return answer is not None or process.wait(0)
