"""A daemon in a home of its own, for as long as a `with` block lasts; nothing of it is left afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import psutil
import zmq

from fusiond import paths
from fusiond.protocol.control import ActorHealth, Event, Health
from fusiond.protocol.envelope import Failure, Request, encode, pack, to_client, unpack
from fusiond.runtime import linux

REMOTE = """\
model = "elsewhere/nothing"
[providers.elsewhere]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
"""
"""A configuration without the embedded model: what needs no model needs no provider that answers."""

_START_LIMIT_S = 60
_END_LIMIT_S = 15
_FOREIGN = ("FUSION_", "OPENAI_", "ANTHROPIC_")


def clean_environment() -> dict[str, str]:
    """Ours without what would configure a daemon, and with byte code cached: an installed program has it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN) and not name.lower().endswith("_proxy")
    }
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept


class Link:
    """A blocking connection to a socket of the daemon; what arrives is stamped on arrival, by no event loop."""

    def __init__(self, path: Path) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 1)
        self._socket.connect(f"ipc://{path}")

    def ask(self, service: str, verb: str, body: bytes = b"") -> bytes:
        """Sends a request; returns its id."""
        id = os.urandom(16)
        self._socket.send(pack(encode(Request(id, service, verb)), body))
        return id

    def take(self, timeout_s: float) -> bytes:
        """The body of the next chunk or reply. Raises TimeoutError, and the `FusionError` of a failure."""
        if not self._socket.poll(int(timeout_s * 1000)):
            raise TimeoutError(f"nothing within {timeout_s} s")
        header, body = unpack(self._socket.recv())
        decoded = to_client.decode(header)
        if isinstance(decoded, Failure):
            raise decoded.error()
        return body

    def request(self, service: str, verb: str, body: bytes = b"", *, timeout_s: float = 30) -> bytes:
        """Asks and waits; nothing else may be under way on this connection."""
        self.ask(service, verb, body)
        return self.take(timeout_s)

    def close(self) -> None:
        self._socket.close(0)


class Tree:
    """A running daemon whose every actor has settled. `config`: its `config.toml`."""

    def __init__(self, config: str = REMOTE, env: Mapping[str, str] | None = None) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="fusion-bench-"))
        (self.home / "config.toml").write_text(config)
        self.env = clean_environment() | dict(env or {}) | {"FUSION_HOME": str(self.home)}
        self.paths = paths.resolve(self.home, self.env)
        self._log = self.home / "daemon.log"

    def __enter__(self) -> Self:
        try:
            self.process = self._start()
            self._await_start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _start(self) -> subprocess.Popen[bytes]:
        us = os.getpid()
        with self._log.open("w") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "fusiond"],
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: linux.die_with(us),  # and with the daemon all of its tree
            )

    def _await_start(self) -> None:
        """The connection is made again until somebody listens; meanwhile the process must not have ended."""
        self.control = Link(self.paths.supervisor_socket)
        self.control.ask("supervisor", "wait")
        limit = time.monotonic() + _START_LIMIT_S
        while time.monotonic() < limit:
            try:
                self.control.take(0.2)
                return
            except TimeoutError:
                if self.process.poll() is not None:
                    break
        raise RuntimeError(f"the daemon did not start:\n{self._log.read_text()}")

    def health(self) -> Health:
        return msgspec.msgpack.decode(self.control.request("supervisor", "health"), type=Health)

    def actor(self, name: str) -> ActorHealth:
        """What `health` says of one actor."""
        return next(actor for actor in self.health().actors if actor.name == name)

    def settle(self) -> Health:
        """Waits until no actor is on its way."""
        return msgspec.msgpack.decode(self.control.request("supervisor", "wait"), type=Health)

    def processes(self) -> list[psutil.Process]:
        """The supervisor and everything below it."""
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def end(self) -> None:
        """Ends the daemon, waits for all of it, and removes its home. Raises RuntimeError if anything was left."""
        alive = self._stop() if hasattr(self, "process") else []
        if hasattr(self, "control"):
            self.control.close()
        shutil.rmtree(self.home, ignore_errors=True)
        if alive:
            raise RuntimeError(f"the daemon left processes behind: {alive}")

    def _stop(self) -> list[psutil.Process]:
        """Returns what outlived the daemon; it is killed."""
        try:
            everyone = self.processes() if self.process.poll() is None else []
        except psutil.NoSuchProcess:
            everyone = []
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        _, left = psutil.wait_procs(everyone, timeout=2)
        alive = [process for process in left if _lives(process)]
        for process in alive:
            process.kill()
        return alive


def _lives(process: psutil.Process) -> bool:
    """A zombie that the system's init has not collected yet is dead."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Watch:
    """The daemon's events as they come."""

    def __init__(self, tree: Tree) -> None:
        self._link = Link(tree.paths.supervisor_socket)
        self._link.ask("supervisor", "events")
        self._link.ask("supervisor", "ping", b"listening")
        while self._link.take(5) != b"listening":  # requests begin in the order in which they came
            pass

    def until(self, kind: str, actor: str, timeout_s: float) -> Event:
        """Waits for this event; the others in between are passed over."""
        limit = time.monotonic() + timeout_s
        while True:
            event = msgspec.json.decode(self._link.take(max(0.0, limit - time.monotonic())), type=Event)
            if (event.kind, event.actor) == (kind, actor):
                return event

    def close(self) -> None:
        self._link.close()
