"""The composition root: the one place where the parts are wired."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import zmq

from fusiond import __version__
from fusiond import config as configuration
from fusiond import paths as places
from fusiond.config import BUILT_IN_PROVIDERS, Config
from fusiond.errors import FusionError
from fusiond.paths import Paths
from fusiond.protocol.control import About, ReloadReport, told
from fusiond.runtime import anew, code, leftovers, linux, lock, tree
from fusiond.runtime.control import Control
from fusiond.runtime.journal import Journal, stamp
from fusiond.runtime.logs import Logs, log_to_journal, start_logging, under_systemd
from fusiond.runtime.notify import Notifier
from fusiond.runtime.processes import Process
from fusiond.runtime.supervisor import Supervisor
from fusiond.supervision.spec import Limits
from fusiond.transport.access import Access
from fusiond.transport.loops import DirectLoop
from fusiond.transport.sockets import listen

log = logging.getLogger(__name__)

_UPKEEP = 5.0  # seconds
_OWN_LOG = "fusiond"
_LOCK = "lock"


def main(paths: Paths, env: dict[str, str], forkserver: Process | None) -> int:
    """Runs the daemon at `paths` until it is told to end; returns its exit status.

    `env`: our environment. `forkserver`: the first one, if it has been forked already.
    """
    brought = anew.brought()
    env |= brought.secrets
    config = configuration.load(paths.config_file, env)
    _seal(config, env)
    places.prepare(paths)
    held = brought.fds.pop(_LOCK, -1)
    if held < 0 or not lock.holds(paths.lock, held):
        held = lock.acquire(paths.lock)
    successor = None
    try:
        start_logging(config.log_level)
        logs = Logs(paths.logs, under_systemd(env))
        if logs.journal is not None:
            log_to_journal("supervisor")
        if swept := leftovers.sweep(paths.run):
            log.warning("ended what an earlier daemon left behind: %s", ", ".join(map(str, swept)))
        linux.keep_secrets()
        linux.share_heap()
        linux.raise_open_files()
        with asyncio.Runner(loop_factory=DirectLoop) as runner:
            successor = runner.run(_run(config, paths, env, logs, forkserver, brought.fds))
    finally:
        if successor is None:
            for path in (paths.router_socket, paths.actors_socket, paths.supervisor_socket):
                with suppress(OSError):
                    path.unlink()
            lock.release(paths.lock, held)
    if successor is not None:
        anew.begin(brought.secrets, successor.fds | {_LOCK: held}, successor.environment)
    return 0


class Successor(NamedTuple):
    """What we leave to the new code that we become: the listening sockets, and what systemd told us."""

    fds: dict[str, int]
    environment: dict[str, str]


def _seal(config: Config, env: Mapping[str, str]) -> None:
    """Begins anew without any key in our environment, where `/proc/PID/environ` would show it.

    Whatever else is named like a secret is taken out, too: a provider that joins later may need it, and no other
    process of ours does.
    """
    keys = _key_names(config)
    if secrets := {name: env[name] for name in os.environ if name in keys or anew.is_secret(name)}:
        anew.begin(secrets)


def _key_names(config: Config) -> set[str]:
    """The variables that may hold a key, those that the configuration sets aside included."""
    providers = (*BUILT_IN_PROVIDERS.values(), *config.providers.values())
    return {provider.api_key_env for provider in providers if provider.api_key_env}


async def _run(
    config: Config,
    paths: Paths,
    env: Mapping[str, str],
    logs: Logs,
    forkserver: Process | None,
    kept: dict[str, int],
) -> Successor | None:
    """Supervises until the end; returns what is left to new code if it is to begin with that. `kept`: what was left
    to us."""
    loop = asyncio.get_running_loop()
    mode = 0o660 if paths.shared else 0o600
    clients = _listener(paths.router_socket, kept, mode)
    actors = _listener(paths.actors_socket, kept)
    orders = _listener(paths.supervisor_socket, kept, mode)
    beginning_anew = False
    journal = Journal(paths.events, 0o640 if paths.shared else 0o600)
    started = configured = stamp()
    notifier = Notifier(os.environ)

    access = Access(tree.access_rules(config, paths))
    supervisor = Supervisor(
        tree.parts(config, paths, configuration.resolve_keys(config, env)),
        limits=_limits(config),
        listeners=(clients, actors),
        actors_endpoint=f"ipc://{paths.actors_socket}",
        journal=journal,
        logs=logs,
        log_level=config.log_level,
        forkserver=forkserver,
    )

    async def reload() -> ReloadReport:
        nonlocal beginning_anew
        if code.stamp() == running_code:
            return ReloadReport(take_configuration())
        if why := await code.fault(paths.config_file):
            journal.record("refused", "supervisor", detail=f"reload: the new code does not start: {why}")
            raise FusionError(
                f"the new code does not start: {why}", advice="nothing has changed; install it again"
            )
        if supervisor.stopping:  # somebody has stopped it meanwhile
            raise FusionError("the daemon is on its way down")
        beginning_anew = True
        notifier.reloading()
        journal.record("reloaded", "supervisor", detail="new code: everything is drained and begins anew")
        loop.call_soon(supervisor.shut_down)
        return ReloadReport(list(supervisor.parts), anew=True)

    def stop() -> None:
        """Whoever wants it ended does not want it to begin anew."""
        nonlocal beginning_anew
        beginning_anew = False
        supervisor.shut_down()

    def take_configuration() -> list[str]:
        nonlocal config, configured
        read_at = stamp()
        try:
            fresh = configuration.load(paths.config_file, env)
            parts = tree.parts(fresh, paths, configuration.resolve_keys(fresh, env))
        except FusionError as error:
            journal.record("refused", "supervisor", detail=f"reload: {error}")
            raise
        gone = [name for name in supervisor.parts if name not in parts]
        replaced = supervisor.reconfigure(parts, _limits(fresh), fresh.log_level) + gone
        config, configured = fresh, read_at
        logging.getLogger().setLevel(fresh.log_level)
        access.change(tree.access_rules(fresh, paths))
        journal.record("reloaded", "supervisor", detail=", ".join(replaced) or "nothing changed")
        return replaced

    async def hung_up() -> None:
        notifier.reloading()
        try:
            report = await reload()
        except FusionError as error:
            log.error("nothing is reloaded: %s", error)
        else:
            if report.anew:
                return
        notifier.ready(supervisor.status())

    reloads: set[asyncio.Task[None]] = set()

    def on_hangup() -> None:
        task = asyncio.create_task(hung_up())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    def about() -> About:
        return About(
            version=__version__,
            pid=os.getpid(),
            started=started,
            python=".".join(map(str, sys.version_info[:3])),
            environment=told(env, _key_names(config)),
            config_file=str(paths.config_file),
            configured=configured,
        )

    control = Control(
        supervisor,
        str(paths.supervisor_socket),
        orders.dup().detach(),
        reload,
        stop,
        about,
        access,
    )
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    journal.record("started", "supervisor", pid=os.getpid())
    supervisor.boot()
    running_code = code.stamp()
    telling = asyncio.create_task(_tell(notifier, supervisor))
    telling.add_done_callback(lambda _: None if beginning_anew else notifier.stopping())
    upkeep = asyncio.create_task(_keep_up(supervisor, logs))
    log.info("fusiond %s, pid %d, on %s", config.model, os.getpid(), paths.run)
    await supervisor.finished.wait()
    telling.cancel()
    upkeep.cancel()
    if not beginning_anew:
        journal.record("stopped", "supervisor", pid=os.getpid())
    control.close()
    journal.close()
    zmq.Context.instance().term()  # what was said last leaves
    listeners = {str(listener.getsockname()): listener.detach() for listener in (clients, actors, orders)}
    if beginning_anew:
        return Successor(listeners, notifier.environment)
    for fd in listeners.values():
        os.close(fd)
    return None


async def _tell(notifier: Notifier, supervisor: Supervisor) -> None:
    """Keeps the service manager informed, from the loop that supervises."""
    if not notifier.heard:
        return
    notifier.watch()
    await supervisor.settled()
    notifier.ready(supervisor.status())
    while not supervisor.stopping:
        await supervisor.changed.wait()
        if not supervisor.stopping:
            notifier.status(supervisor.status())


async def _keep_up(supervisor: Supervisor, logs: Logs) -> None:
    """What is looked after now and then: logs that have become too long, processes that have become too large."""
    while True:
        await asyncio.sleep(_UPKEEP)
        try:
            supervisor.processes.rotate_logs()
            supervisor.recycle()
            logs.rotate_own(_OWN_LOG)
        except Exception:  # the next time it may be possible
            log.exception("what is looked after now and then could not be")


def _listener(path: Path, kept: dict[str, int], mode: int = 0o600) -> socket.socket:
    """The socket at this path: the one that was kept for us, else a new one."""
    fd = kept.pop(str(path), None)
    return listen(str(path), mode) if fd is None else socket.socket(fileno=fd)


def _limits(config: Config) -> Limits:
    settings = config.supervisor
    return Limits(intensity=settings.restart_intensity, period_s=settings.restart_period_s)
