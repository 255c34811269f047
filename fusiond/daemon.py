"""The composition root: the one place where the parts are wired."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress

from fusiond import __version__
from fusiond import config as configuration
from fusiond import paths as places
from fusiond.config import BUILT_IN_PROVIDERS, Config
from fusiond.errors import FusionError
from fusiond.paths import Paths
from fusiond.protocol.control import About, told
from fusiond.runtime import child, leftovers, linux, lock, tree
from fusiond.runtime.control import Control
from fusiond.runtime.journal import Journal, stamp
from fusiond.runtime.logs import Logs, log_to_journal, start_logging, under_systemd
from fusiond.runtime.notify import Notifier
from fusiond.runtime.processes import Process, fork_forkserver
from fusiond.runtime.supervisor import Supervisor
from fusiond.supervision.spec import Limits
from fusiond.transport.access import Access
from fusiond.transport.loops import DirectLoop
from fusiond.transport.sockets import listen

log = logging.getLogger(__name__)

_UPKEEP = 5.0  # seconds
_OWN_LOG = "fusiond"
_SECRETS_FD = "FUSION_SECRETS_FD"
_SECRET = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)


def main(home: str | None) -> int:
    """Runs the daemon of `home` until it is told to end; returns its exit status."""
    env = dict(os.environ)
    paths = places.resolve(home, env)
    child.title(f"supervisor {paths.home or ''}".rstrip())
    # before there is any secret in our memory: it is the fork server's too
    forkserver = None if _to_be_sealed(env) else fork_forkserver(_actors_endpoint(paths))
    env |= _unsealed()
    config = configuration.load(paths.config_file, env)
    _seal(config, env)
    places.prepare(paths)
    held = lock.acquire(paths.lock)
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
            runner.run(_run(config, paths, env, logs, forkserver))
    finally:
        for path in (paths.router_socket, paths.actors_socket, paths.supervisor_socket):
            with suppress(OSError):
                path.unlink()
        lock.release(paths.lock, held)
    return 0


def _seal(config: Config, env: Mapping[str, str]) -> None:
    """Starts this program again without any key in its environment, where `/proc/PID/environ` would show it.

    The keys go along in an unnamed file that only we can read, and with them whatever else is named like a secret: a
    provider that joins later may need it, and no other process of ours does.
    """
    keys = _key_names(config)
    secrets = {name: env[name] for name in os.environ if name in keys or _SECRET.search(name)}
    if not secrets:
        return
    fd = os.memfd_create("keys", 0)
    os.write(fd, json.dumps(secrets).encode())
    clean = {name: value for name, value in os.environ.items() if name not in secrets}
    clean[_SECRETS_FD] = str(fd)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], clean)  # noqa: S606 — ourselves


def _to_be_sealed(env: Mapping[str, str]) -> bool:
    """Whether `_seal` will start us again, as far as names tell."""
    return _SECRETS_FD not in env and any(map(_SECRET.search, env))


def _key_names(config: Config) -> set[str]:
    """The variables that may hold a key, those that the configuration sets aside included."""
    providers = (*BUILT_IN_PROVIDERS.values(), *config.providers.values())
    return {provider.api_key_env for provider in providers if provider.api_key_env}


def _unsealed() -> dict[str, str]:
    """The keys that `_seal` put aside."""
    fd = os.environ.pop(_SECRETS_FD, None)
    if fd is None:
        return {}
    with os.fdopen(int(fd), "rb") as file:
        file.seek(0)
        found: dict[str, str] = json.loads(file.read())
    return found


def _actors_endpoint(paths: Paths) -> str:
    return f"ipc://{paths.actors_socket}"


async def _run(
    config: Config, paths: Paths, env: Mapping[str, str], logs: Logs, forkserver: Process | None
) -> None:
    loop = asyncio.get_running_loop()
    mode = 0o660 if paths.shared else 0o600
    clients = listen(str(paths.router_socket), mode)
    actors = listen(str(paths.actors_socket))
    control_listener = listen(str(paths.supervisor_socket), mode)
    journal = Journal(paths.events, 0o640 if paths.shared else 0o600)
    started = configured = stamp()
    notifier = Notifier(os.environ)

    supervisor = Supervisor(
        tree.parts(config, paths, configuration.resolve_keys(config, env)),
        limits=_limits(config),
        listeners=(clients, actors),
        actors_endpoint=_actors_endpoint(paths),
        journal=journal,
        logs=logs,
        log_level=config.log_level,
        forkserver=forkserver,
    )

    def reload() -> list[str]:
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
        journal.record("reloaded", "supervisor", detail=", ".join(replaced) or "nothing changed")
        return replaced

    def on_hangup() -> None:
        notifier.reloading()
        try:
            reload()
        except FusionError as error:
            log.error("the configuration is not taken: %s", error)
        notifier.ready(supervisor.status())

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
        control_listener.fileno(),
        reload,
        supervisor.shut_down,
        about,
        Access(tree.access_rules(config, paths)),
    )
    control_listener.detach()
    loop.add_signal_handler(signal.SIGTERM, supervisor.shut_down)
    loop.add_signal_handler(signal.SIGINT, supervisor.shut_down)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    journal.record("started", "supervisor", pid=os.getpid())
    supervisor.boot()
    telling = asyncio.create_task(_tell(notifier, supervisor))
    upkeep = asyncio.create_task(_keep_up(supervisor, logs))
    log.info("fusiond %s, pid %d, on %s", config.model, os.getpid(), paths.run)
    await supervisor.finished.wait()
    telling.cancel()
    upkeep.cancel()
    journal.record("stopped", "supervisor", pid=os.getpid())
    control.close()
    _close(clients, actors)
    journal.close()


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
    notifier.stopping()


async def _keep_up(supervisor: Supervisor, logs: Logs) -> None:
    """What is looked after now and then: logs that have become too long, processes that have become too large."""
    while True:
        await asyncio.sleep(_UPKEEP)
        supervisor.processes.rotate_logs()
        supervisor.recycle()
        logs.rotate_own(_OWN_LOG)


def _close(*listeners: socket.socket) -> None:
    for listener in listeners:
        listener.close()


def _limits(config: Config) -> Limits:
    settings = config.supervisor
    return Limits(intensity=settings.restart_intensity, period_s=settings.restart_period_s)
