"""Requests over real sockets: lost connections, repeated and missing chunks, cancels, acknowledgements."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from fusiond.errors import BadRequest, Cancelled, DeadlineExceeded, NotFound, ProtocolMismatch
from fusiond.protocol.envelope import (
    MAGIC,
    Ack,
    Cancel,
    Chunk,
    Failure,
    Reply,
    Request,
    encode,
    from_client,
    unpack,
)
from fusiond.transport.access import Access, AccessRules
from fusiond.transport.requester import Requester
from fusiond.transport.sockets import MAX_MESSAGE, Listener, Peer, listen


class Server:
    """A listening socket whose owner can go away and come back, as the router does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket: socket.socket = listen(str(path))
        self.heard: list[Request | Cancel | Ack] = []
        self.peers: list[Peer] = []
        self.answer: Callable[[Peer, Request, bytes], object] = lambda peer, header, body: None
        self._news = asyncio.Event()
        self.listener = self._listen()

    def _listen(self) -> Listener:
        return Listener(str(self.path), os.dup(self.socket.fileno()), self._take, Access(AccessRules()))

    def _take(self, peer: Peer, message: bytes) -> None:
        frame, body = unpack(message)
        header = from_client.decode(frame)
        assert isinstance(header, Request | Cancel | Ack)
        self.heard.append(header)
        self.peers.append(peer)
        self._news.set()
        if isinstance(header, Request):
            self.answer(peer, header, body)

    def restart(self) -> None:
        self.listener.close()
        self.listener = self._listen()

    async def hear(self, kind: type, count: int = 1) -> list[Request | Cancel | Ack]:
        """Waits until `count` messages of `kind` have come."""
        while len(found := [item for item in self.heard if isinstance(item, kind)]) < count:
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), 10)
        return found

    def send(self, peer: Peer, header: Chunk | Reply | Failure, body: bytes = b"") -> None:
        self.listener.send(peer.identity, encode(header), body)

    def close(self) -> None:
        self.listener.close()
        self.socket.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path / "s.sock")
    yield server
    server.close()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Requester]:
    client = Requester(f"ipc://{server.path}")
    yield client
    await client.close()


def echo(server: Server) -> None:
    server.answer = lambda peer, header, body: server.send(peer, Reply(header.id), body)


async def test_a_request_is_answered(server: Server, client: Requester) -> None:
    echo(server)
    assert await client.request("agent", "ping", b"hello", timeout=10) == b"hello"


async def test_the_peer_is_known_by_pid_and_uid(server: Server, client: Requester) -> None:
    echo(server)
    await client.request("agent", "ping", timeout=10)
    assert (server.peers[0].pid, server.peers[0].uid) == (os.getpid(), os.getuid())


async def test_a_failure_is_raised_as_the_error_it_names(server: Server, client: Requester) -> None:
    server.answer = lambda peer, header, body: server.send(
        peer, Failure(header.id, "not_found", "no such thing", "look elsewhere")
    )
    with pytest.raises(NotFound, match="no such thing — look elsewhere"):
        await client.request("agent", "chat", timeout=10)


async def test_what_is_pending_is_sent_again_under_the_same_id_when_the_router_is_back(
    server: Server, client: Requester
) -> None:
    pending = client.stream("agent", "chat", b"question", timeout=10)
    (first,) = await server.hear(Request)
    echo(server)
    server.restart()
    assert await pending.result() == b"question"
    _, second = await server.hear(Request, 2)
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert first.id == second.id


async def test_a_broken_stream_goes_on_from_the_chunk_it_lacks(server: Server, client: Requester) -> None:
    stream = client.stream("agent", "chat", timeout=10)
    (request,) = await server.hear(Request)
    assert isinstance(request, Request)
    server.send(server.peers[0], Chunk(request.id, 0), b"one ")
    chunks = aiter(stream)
    assert await anext(chunks) == b"one "
    server.restart()
    _, again = await server.hear(Request, 2)
    assert isinstance(again, Request)
    assert again.offset == 1
    server.send(server.peers[-1], Chunk(request.id, 1), b"two")
    server.send(server.peers[-1], Reply(request.id, chunks=2), b"end")
    assert [chunk async for chunk in chunks] == [b"two"]
    assert await stream.result() == b"end"


async def test_chunks_come_once_and_in_order_and_before_the_end(server: Server, client: Requester) -> None:
    stream = client.stream("agent", "chat", timeout=10)
    (request,) = await server.hear(Request)
    assert isinstance(request, Request)
    peer = server.peers[0]
    server.send(peer, Chunk(request.id, 0), b"a")
    server.send(peer, Chunk(request.id, 0), b"a again")
    server.send(peer, Chunk(request.id, 2), b"beyond a gap")
    server.send(peer, Reply(request.id, chunks=3), b"too early")
    server.send(peer, Chunk(request.id, 1), b"b")
    server.send(peer, Chunk(request.id, 2), b"c")
    server.send(peer, Reply(request.id, chunks=3), b"end")
    assert [chunk async for chunk in stream] == [b"a", b"b", b"c"]
    assert await stream.result() == b"end"


async def test_cancelling_the_waiting_task_takes_the_request_back(server: Server, client: Requester) -> None:
    task = asyncio.ensure_future(client.request("agent", "chat"))
    (request,) = await server.hear(Request)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    (cancel,) = await server.hear(Cancel)
    assert isinstance(request, Request)
    assert isinstance(cancel, Cancel)
    assert cancel.id == request.id


async def test_a_cancelled_stream_ends_in_cancelled(server: Server, client: Requester) -> None:
    stream = client.stream("agent", "chat")
    await server.hear(Request)
    stream.cancel()
    with pytest.raises(Cancelled):
        await stream.result()


async def test_terminal_replies_are_acknowledged_with_the_next_request_or_soon(
    server: Server, client: Requester
) -> None:
    echo(server)
    await client.request("agent", "ping", timeout=10)
    await client.request("agent", "ping", timeout=10)
    first, second = await server.hear(Request, 2)
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert second.acks == [first.id]
    (ack,) = await server.hear(Ack)
    assert isinstance(ack, Ack)
    assert ack.ids == [second.id]


async def test_a_silent_other_side_ends_in_deadline_exceeded(
    server: Server, client: Requester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusiond.transport.requester._GRACE", 0.05)
    with pytest.raises(DeadlineExceeded):
        await client.request("agent", "chat", timeout=0.05)
    await server.hear(Cancel)


async def test_a_message_too_large_is_refused_before_it_is_sent(client: Requester) -> None:
    with pytest.raises(BadRequest, match="at most"):
        await client.request("agent", "chat", bytes(MAX_MESSAGE))


async def test_a_daemon_of_another_protocol_version_is_recognised(server: Server, client: Requester) -> None:
    strange = MAGIC[:2] + b"\x07" + encode(Reply(b"i" * 16))[3:]
    server.answer = lambda peer, header, body: server.listener.send(peer.identity, strange)
    with pytest.raises(ProtocolMismatch, match="version 7"):
        await client.request("agent", "chat", timeout=10)


async def test_a_socket_file_has_its_mode_from_its_first_moment(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"
    path.write_text("left behind")
    with listen(str(path), 0o600):
        assert path.stat().st_mode & 0o777 == 0o600


async def test_what_was_taken_back_while_nobody_listened_is_taken_back_when_somebody_does(
    server: Server, client: Requester
) -> None:
    asked = client.stream("agent", "chat")
    await server.hear(Request)
    server.restart()
    asked.cancel()
    first = await server.hear(Cancel)
    assert first == [Cancel(asked.header.id)]
    server.restart()  # it has confirmed nothing yet
    await server.hear(Cancel, 2)
    server.send(server.peers[-1], Failure(asked.header.id, "cancelled", "cancelled"))
    await server.hear(Ack)
    server.restart()
    echo(server)
    await client.request("agent", "ping", timeout=10)
    assert len(await server.hear(Cancel)) == 2
