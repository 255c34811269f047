"""An actor → router → llm actor → server, without agent and store: only actors may ask for bare completions.

A router and an llm actor in processes of their own, started as the supervisor starts them. This process holds
their lifelines in its place, and is itself the actor that asks, on the connection that every actor has,
`fusiond.actors.host`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from fusiond.actors import host
from fusiond.actors.base import Actor, Port
from fusiond.actors.life import MAX_DATAGRAM
from fusiond.actors.router import RouterConfig
from fusiond.protocol.chat import Completion, CompletionRequest, Message
from fusiond.protocol.lifeline import Announce, Assign, Peer, Ready, decode_to_supervisor, encode
from fusiond.providers.settings import LlmConfig, ProviderConfig
from fusiond.transport.loops import DirectLoop
from fusiond.transport.sockets import Dealer, listen
from tests.bench.complete import PROMPT, many
from tests.bench.instant_server import TEXT

_request = msgspec.msgpack.encode(CompletionRequest(messages=[Message("user", PROMPT)], stream=False))
_decode = msgspec.msgpack.Decoder(Completion).decode


class Asker(Actor):
    """Serves nothing; `port` is there once it is set up."""

    def __init__(self) -> None:
        self.port: asyncio.Future[Port] = asyncio.get_running_loop().create_future()

    async def setup(self, port: Port) -> None:
        self.port.set_result(port)


class FusionCompletions:
    def __init__(self, url: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fusion-bench-"))
        self._runner = asyncio.Runner(loop_factory=DirectLoop)
        self._children: list[_Child] = []
        try:
            self._asking = self._runner.run(self._open(url))
        except BaseException:
            self._end()
            raise

    async def _open(self, url: str) -> asyncio.Task[None]:
        """Starts the others, then this actor; returns when it has been answered once."""
        router = self._start("router", _router(self._folder))
        llm = self._start("llm", _llm(self._folder, url))
        peers = [Peer("agent", 1, os.getpid(), "agent"), Peer("llm", 1, llm.process.pid, "llm")]
        router.say(Announce(peers, whole=True))
        for child in (router, llm):
            child.until_ready()
        asker = Asker()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        assign = _assign("agent", "agent", b"")
        serving = host.serve(lambda _: asker, assign, theirs, Dealer(self._endpoint))
        task = asyncio.create_task(serving)
        self._port = await asker.port
        await self._ask()
        return task

    @property
    def _endpoint(self) -> str:
        return f"ipc://{self._folder / 'actors.sock'}"

    def _start(self, name: str, config: msgspec.Struct) -> _Child:
        listeners = (
            [listen(str(self._folder / f"{each}.sock")) for each in ("router", "actors")]
            if name == "router"
            else []
        )
        child = _Child(self._endpoint)
        self._children.append(child)
        child.say(
            _assign(name, name, msgspec.msgpack.encode(config)),
            [sys.stderr.fileno(), *(each.fileno() for each in listeners)],
        )
        for each in listeners:
            each.close()
        return child

    def pipelined(self, count: int) -> float:
        return self._runner.run(many(count, self._ask))

    async def _ask(self) -> None:
        body = await self._port.request("llm", "complete", _request)
        assert _decode(body).text == TEXT

    def close(self) -> None:
        self._asking.cancel()
        self._end()

    def _end(self) -> None:
        for child in self._children:
            child.end()
        self._runner.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Child:
    """A blank child of Fusion's, with our end of its lifeline."""

    def __init__(self, endpoint: str) -> None:
        self._lifeline, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "fusiond.runtime.child",
                    str(theirs.fileno()),
                    str(os.getpid()),
                    endpoint,
                ],
                pass_fds=[theirs.fileno()],
            )

    def say(self, word: Any, fds: list[int] | None = None) -> None:
        socket.send_fds(self._lifeline, [encode(word)], fds or [])

    def until_ready(self) -> None:
        while word := self._lifeline.recv(MAX_DATAGRAM):
            if isinstance(decode_to_supervisor(word), Ready):
                return
        raise RuntimeError("an actor ended before it was ready")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._lifeline.close()


def _assign(name: str, kind: str, config: bytes) -> Assign:
    return Assign(
        name=name,
        kind=kind,
        service=kind,
        generation=1,
        heartbeat_interval_ms=250,
        config=config,
        log_level="WARNING",
    )


def _router(folder: Path) -> RouterConfig:
    return RouterConfig(
        queue_size=1024,
        services=["llm", "agent"],
        clients_path=str(folder / "router.sock"),
        actors_path=str(folder / "actors.sock"),
    )


def _llm(folder: Path, url: str) -> LlmConfig:
    return LlmConfig(
        model="instant/echo",
        models_dir=str(folder),
        run_dir=str(folder),
        providers={"instant": ProviderConfig(base_url=url)},
    )
