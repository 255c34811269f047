"""What an actor's host says to its router: over real sockets, with the test as the router and the supervisor."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fusiond.actors.base import Actor, Call
from fusiond.actors.host import Host
from fusiond.protocol.envelope import (
    AnyHeader,
    Cancel,
    HandBack,
    Leave,
    Left,
    Register,
    Reply,
    Request,
    Started,
    Welcome,
    encode,
    from_actor,
    unpack,
)
from fusiond.protocol.lifeline import Assign, Drain
from fusiond.protocol.lifeline import encode as word
from fusiond.transport.access import Access, AccessRules
from fusiond.transport.ids import current_request
from fusiond.transport.sockets import Dealer, Listener, Peer, listen

FIRST, SECOND, ORIGIN = b"1" * 16, b"2" * 16, b"o" * 16


class Echo(Actor):
    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.verbs = {"echo": lambda call: call.body, "wait": self._wait}
        self.origins: list[bytes] = []

    async def _wait(self, call: Call) -> bytes:
        self.origins.append(current_request.get())
        await self.gate.wait()
        return call.body


class Router:
    """`heard`: what the actor has said, in order."""

    def __init__(self, path: Path) -> None:
        self._socket = listen(str(path))
        self._listener = Listener(str(path), os.dup(self._socket.fileno()), self._take, Access(AccessRules()))
        self._peer: Peer | None = None
        self._news = asyncio.Event()
        self.heard: list[AnyHeader] = []

    def _take(self, peer: Peer, message: bytes) -> None:
        self._peer = peer
        header = from_actor.decode(unpack(message)[0])
        self.heard.append(header)
        self._news.set()
        if isinstance(header, Register):
            self.say(Welcome())

    def say(self, header: AnyHeader, body: bytes = b"") -> None:
        assert self._peer is not None
        self._listener.send(self._peer.identity, encode(header), body)

    async def hear(self, kind: type, count: int = 1) -> None:
        """Waits until so many of a kind have come."""
        while sum(isinstance(header, kind) for header in self.heard) < count:
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), 10)

    def close(self) -> None:
        self._listener.close()
        self._socket.close()


class Scene:
    """A host that serves an Echo."""

    def __init__(self, folder: Path) -> None:
        path = folder / "actors.sock"
        self.router = Router(path)
        self.actor = Echo()
        self.lifeline, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        assign = Assign(
            name="echo", kind="agent", service="agent", generation=1, heartbeat_interval_ms=60_000, config=b""
        )
        host = Host(self.actor, assign, theirs, Dealer(f"ipc://{path}"))
        self.serving = asyncio.create_task(host.run())


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    await scene.router.hear(Register)
    yield scene
    scene.serving.cancel()
    await asyncio.gather(scene.serving, return_exceptions=True)
    scene.router.close()


async def test_an_actor_ends_only_when_the_router_has_taken_all_it_said(scene: Scene) -> None:
    scene.router.say(Request(FIRST, "agent", "wait"), b"x")
    await scene.router.hear(Started)
    scene.lifeline.send(word(Drain()))
    scene.actor.gate.set()
    await scene.router.hear(Leave)
    assert [type(header) for header in scene.router.heard][-2:] == [Reply, Leave]
    assert not scene.serving.done()
    scene.router.say(Left())
    await asyncio.wait_for(scene.serving, 10)


async def test_what_comes_while_it_leaves_is_handed_back_and_it_takes_its_leave_again(scene: Scene) -> None:
    scene.lifeline.send(word(Drain()))
    await scene.router.hear(Leave)
    scene.router.say(Request(FIRST, "agent", "echo"), b"x")
    scene.router.say(Left())
    await scene.router.hear(Leave, 2)
    assert HandBack(FIRST) in scene.router.heard
    scene.router.say(Left())
    await asyncio.wait_for(scene.serving, 10)


async def test_an_actor_ends_without_a_router_too(scene: Scene) -> None:
    scene.router.close()
    scene.lifeline.send(word(Drain()))
    await asyncio.wait_for(scene.serving, 10)


async def test_a_cancel_of_what_is_answered_is_confirmed_by_the_answer(scene: Scene) -> None:
    scene.router.say(Request(FIRST, "agent", "echo"), b"x")
    await scene.router.hear(Reply)
    scene.router.say(Cancel(FIRST))
    await scene.router.hear(Reply, 2)


async def test_what_is_done_for_a_request_knows_the_clients_request_it_follows_from(scene: Scene) -> None:
    scene.router.say(Request(FIRST, "agent", "wait", origin=ORIGIN), b"x")
    scene.router.say(Request(SECOND, "agent", "wait", origin=SECOND), b"x")
    await scene.router.hear(Started, 2)
    assert scene.actor.origins == [ORIGIN, SECOND]
    assert current_request.get() == b""
