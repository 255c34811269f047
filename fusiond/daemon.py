"""The composition root: the one place where the parts are wired."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fusiond import config as configuration
from fusiond import paths as places
from fusiond.config import Config
from fusiond.errors import FusionError
from fusiond.paths import Paths
from fusiond.runtime import child, linux, lock, tree
from fusiond.runtime.control import Control
from fusiond.runtime.journal import Journal
from fusiond.runtime.supervisor import Supervisor
from fusiond.supervision.spec import Limits
from fusiond.transport.sockets import listen

log = logging.getLogger(__name__)

_SECRETS_FD = "FUSION_SECRETS_FD"


def main(home: str | None) -> int:
    """Runs the daemon of `home` until it is told to end; returns its exit status."""
    env = dict(os.environ)
    env |= _unsealed()
    paths = places.resolve(home, env)
    config = configuration.load(paths.config_file, env)
    _seal(config, env)
    places.prepare(paths)
    held = lock.acquire(paths.lock)
    try:
        child.start_logging(config.log_level)
        child.title(f"supervisor {paths.home or ''}".rstrip())
        linux.keep_secrets()
        linux.raise_open_files()
        asyncio.run(_run(config, paths, env))
    finally:
        for path in (paths.router_socket, paths.actors_socket, paths.supervisor_socket):
            with suppress(OSError):
                path.unlink()
        lock.release(paths.lock, held)
    return 0


def _seal(config: Config, env: Mapping[str, str]) -> None:
    """Starts this program again without any key in its environment, where `/proc/PID/environ` would show it.

    The keys go along in an unnamed file that only we can read.
    """
    names = {provider.api_key_env for provider in config.providers.values()}
    secrets = {name: env[name] for name in names if name in os.environ}
    if not secrets:
        return
    fd = os.memfd_create("keys", 0)
    os.write(fd, json.dumps(secrets).encode())
    clean = {name: value for name, value in os.environ.items() if name not in secrets}
    clean[_SECRETS_FD] = str(fd)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], clean)  # noqa: S606 — ourselves


def _unsealed() -> dict[str, str]:
    """The keys that `_seal` put aside."""
    fd = os.environ.pop(_SECRETS_FD, None)
    if fd is None:
        return {}
    with os.fdopen(int(fd), "rb") as file:
        file.seek(0)
        found: dict[str, str] = json.loads(file.read())
    return found


async def _run(config: Config, paths: Paths, env: Mapping[str, str]) -> None:
    loop = asyncio.get_running_loop()
    clients = listen(str(paths.router_socket))
    actors = listen(str(paths.actors_socket))
    control_listener = listen(str(paths.supervisor_socket))
    journal = Journal(paths.events)

    def log_of(name: str) -> Path:
        return paths.logs / f"{name}.log"

    supervisor = Supervisor(
        tree.parts(config, paths, configuration.resolve_keys(config, env)),
        limits=_limits(config),
        preload=tree.preload(config),
        listeners=(clients, actors),
        actors_endpoint=f"ipc://{paths.actors_socket}",
        journal=journal,
        log_of=log_of,
        log_level=config.log_level,
    )

    def reload() -> list[str]:
        try:
            fresh = configuration.load(paths.config_file, env)
            parts = tree.parts(fresh, paths, configuration.resolve_keys(fresh, env))
        except FusionError as error:
            journal.record("refused", "supervisor", detail=f"reload: {error}")
            raise
        replaced = supervisor.reconfigure(parts, _limits(fresh), tree.preload(fresh), fresh.log_level)
        journal.record("reloaded", "supervisor", detail=", ".join(replaced) or "nothing changed")
        return replaced

    def on_hangup() -> None:
        try:
            reload()
        except FusionError as error:
            log.error("the configuration is not taken: %s", error)

    control = Control(
        supervisor, str(paths.supervisor_socket), control_listener.fileno(), reload, supervisor.shut_down
    )
    control_listener.detach()
    loop.add_signal_handler(signal.SIGTERM, supervisor.shut_down)
    loop.add_signal_handler(signal.SIGINT, supervisor.shut_down)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    journal.record("started", "supervisor", pid=os.getpid())
    supervisor.boot()
    log.info("fusiond %s, pid %d, on %s", config.model, os.getpid(), paths.run)
    await supervisor.finished.wait()
    journal.record("stopped", "supervisor", pid=os.getpid())
    control.close()
    _close(clients, actors)
    journal.close()


def _close(*listeners: socket.socket) -> None:
    for listener in listeners:
        listener.close()


def _limits(config: Config) -> Limits:
    settings = config.supervisor
    return Limits(intensity=settings.restart_intensity, period_s=settings.restart_period_s)
