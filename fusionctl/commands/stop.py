"""`fusionctl stop`: the daemon and all of its processes, gone when this returns."""

from __future__ import annotations

import os
import signal
import subprocess

import click
import msgspec

from fusionctl import autostart, control, holder, homes
from fusionctl.holder import Holder
from fusionctl.invocation import Invocation, notice
from fusionctl.service_manager import Unit, unit
from fusiond.errors import Denied, FusionError, ProtocolMismatch
from fusiond.paths import Paths
from fusiond.protocol.control import Stopping

_PATIENCE = 60.0  # seconds for draining; the configuration's grace is 5 by default


@click.command(epilog="Example: fusionctl stop")
@click.pass_obj
def stop(invocation: Invocation) -> None:
    """Let the daemon finish what it can within its grace, end it, and wait until nothing of it is left.

    A service of systemd is stopped by systemd. A supervisor that does not answer is killed. Where none runs, that is
    fine too.
    """
    for paths in homes.candidates(invocation.home):
        if (process := holder.find(paths)) is not None:
            _stop(paths, process)
            return
    click.echo("not running")


def _stop(paths: Paths, process: Holder) -> None:
    if process.service and (service := unit(paths)) is not None:
        _stop_service(process, service)
        return
    if not _asked(paths, process):
        if not process.ours:
            raise FusionError(autostart.hung(process), advice="ask whoever runs it to end it")
        notice(f"{autostart.hung(process)}: killing it")
        holder.end(process)
    elif not process.wait(_PATIENCE):
        notice(f"the daemon (pid {process.pid}) has not ended after {_PATIENCE:g} s: killing it")
        holder.end(process)
    click.echo(f"stopped: pid {process.pid}")


def _stop_service(process: Holder, service: Unit) -> None:
    """systemd would only start it again."""
    command = service.systemctl("stop")
    if service.scope or os.geteuid() == 0:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise FusionError(f"{' '.join(command)} failed: {done.stderr.strip()}")
        click.echo(f"stopped: pid {process.pid} ({' '.join(command)})")
        return
    raise Denied(
        f"{service.name} is a service of systemd, which would start it again",
        advice=f"as root: {' '.join(command)}",
    )


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
