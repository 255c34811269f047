"""The router: the pure table of `fusiond.routing` between two listening sockets.

`router.sock` is for clients and takes the public verbs only; at `actors.sock` only a process that the supervisor
announced may register. It reads headers, never bodies, and holds nothing that others could not tell it again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import Any

import msgspec

from fusiond.actors.life import Life
from fusiond.errors import Denied, ProtocolMismatch
from fusiond.paths import GROUP_ADVICE
from fusiond.protocol.envelope import (
    Ack,
    Cancel,
    Chunk,
    Codec,
    Failure,
    HandBack,
    Leave,
    Left,
    Refusal,
    Register,
    Reply,
    Request,
    Started,
    Welcome,
    encode,
    failure,
    from_actor,
    from_client,
    unpack,
)
from fusiond.protocol.lifeline import Aftermath, Announce, Assign, Drain, Failed, Gone, Ready, Stuck
from fusiond.routing.records import Route, Worker, key_of
from fusiond.routing.table import Table
from fusiond.transport.access import Access, AccessRules, Throttle, user_name
from fusiond.transport.sockets import Listener, Peer

log = logging.getLogger(__name__)

PUBLIC = {
    ("agent", "chat"),
    ("agent", "list"),
    ("agent", "show"),
    ("agent", "run"),
    ("tools", "list"),
    ("tools", "show"),
    ("tools", "call"),
    ("tools", "servers"),
    ("mcp", "show"),
    ("mcp", "tools"),
    ("mcp", "call"),
    ("mcp", "read"),
    ("mcp", "prompt"),
    ("store", "runs.list"),
    ("store", "runs.show"),
    ("store", "sessions.list"),
    ("store", "sessions.show"),
    ("store", "sessions.delete"),
    ("store", "sessions.search"),
    ("store", "batches.add"),
    ("store", "batches.list"),
    ("store", "batches.results"),
    ("store", "batches.delete"),
    ("batch", "begin"),
    ("batch", "submit"),
    ("batch", "cancel"),
    ("batch", "show"),
    ("batch", "watch"),
}
"""What clients may ask for; besides `ping`, of every service. "mcp" stands for each "mcp.SERVER"."""
JOBS = {
    ("store", "batches.list"),
    ("store", "batches.results"),
    ("store", "batches.delete"),
    ("batch", "cancel"),
    ("batch", "show"),
    ("batch", "watch"),
}
"""What who operates a shared daemon may do with everybody's jobs."""
_CHANGING = {("store", "batches.delete"), ("batch", "cancel")}
_ANYBODY = -1
_ENDS = (Reply, Failure)  # a tuple: `Reply | Failure` would be made anew for each message
_MOST_IDENTITIES = 4096  # of one client process


class RouterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor hands to the router. `services`: all there may be, with or without an actor just now."""

    queue_size: int
    services: list[str]
    clients_path: str
    actors_path: str
    access: AccessRules = AccessRules()


class Router:
    """The loop around the table."""

    def __init__(self, config: RouterConfig, assign: Assign, lifeline: socket.socket, fds: list[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._table = Table(
            self._send,
            self._stuck,
            queue_size=config.queue_size,
            services=config.services,
            now=self._loop.time(),
        )
        self._tick: asyncio.TimerHandle | None = None
        self._tick_at = 0.0
        self._watched: dict[int, tuple[int, set[bytes]]] = {}  # a client's pid → a pidfd, its connections
        self._registered: dict[bytes, Worker] = {}  # by the identity of its connection
        self._access = Access(config.access)
        self._throttle = Throttle()
        self._settled = asyncio.Event()
        self._drained = asyncio.Event()
        self._life = Life(lifeline, assign.heartbeat_interval_ms, self._word)
        self._life.in_flight = lambda: self._table.in_flight
        self._actors = Listener(config.actors_path, fds[1], self._from_actor, Access(AccessRules()))
        self._clients = Listener(config.clients_path, fds[0], self._from_client, self._access)

    async def run(self) -> None:
        """Routes until drained."""
        await self._settled.wait()
        self._life.say(Ready())
        await self._drained.wait()
        self._clients.close(linger_ms=200)
        self._actors.close(linger_ms=200)

    # --- from outside ------------------------------------------------------------------------------------------------

    def _from_client(self, peer: Peer, message: bytes) -> None:
        decoded = self._decode(from_client, self._clients, peer, message)
        if decoded is None:
            return
        header, _, body = decoded
        route = (False, peer.identity)
        now = self._loop.time()
        if isinstance(header, Request):
            if (denied := self._denied(peer, header)) is not None:
                self._clients.send(peer.identity, encode(failure(header.id, denied)))
                self._note_refusal(peer, denied)
                return
            if log.isEnabledFor(logging.DEBUG):
                asked = f"{header.service}/{header.verb}, asked by pid {peer.pid} of {user_name(peer.uid)}"
                log.debug("%s [request %s]", asked, header.id.hex())
            self._table.request(route, header, body, now, self._on_behalf(peer, header))
            self._watch(peer)  # after the request: somebody waits for that
            if header.acks:
                self._table.ack(route, header.acks)
        elif isinstance(header, Cancel):
            self._table.cancel(route, header.id, now)
        elif isinstance(header, Ack):
            self._table.ack(route, header.ids)
        self._schedule()

    def _denied(self, peer: Peer, header: Request) -> Denied | None:
        if peer.role is None:
            return Denied(f"{user_name(peer.uid)} may not use this daemon", advice=GROUP_ADVICE)
        if header.verb != "ping" and (header.service.partition(".")[0], header.verb) not in PUBLIC:
            return Denied(f"{header.service}/{header.verb} is not for clients")
        return None

    def _on_behalf(self, peer: Peer, header: Request) -> int:
        """In whose name it is asked: who operates a shared daemon is asking for everybody where it is about jobs."""
        asked = (header.service, header.verb)
        if peer.role != "operate" or not self._access.shared or asked not in JOBS:
            return peer.uid
        if asked in _CHANGING:
            self._life.notice("ordered", header.service, f"{header.verb}, by {user_name(peer.uid)}", peer.uid)
        return _ANYBODY

    def _from_actor(self, peer: Peer, message: bytes) -> None:
        decoded = self._decode(from_actor, self._actors, peer, message)
        if decoded is None:
            return
        header, frame, body = decoded
        now = self._loop.time()
        if isinstance(header, Register):
            self._register(peer, header, now)
        elif (worker := self._registered.get(peer.identity)) is None or worker.pid != peer.pid:
            self._refuse(self._actors, peer, Denied(f"process {peer.pid} is no registered actor"))
        elif isinstance(header, Chunk):
            self._table.chunk(worker, header.id, frame, body)
        elif isinstance(header, _ENDS):
            if not self._table.terminal(worker, header.id, frame, body):
                log.warning("%s answered a request that is not its own", worker.name)
        elif isinstance(header, Request):
            route = (True, peer.identity)
            if header.acks:
                self._table.ack(route, header.acks)
            self._table.request(route, header, body, now)
        elif isinstance(header, Started):
            self._table.started(worker, header.id)
        elif isinstance(header, Leave):
            self._table.drain(worker.name, worker.generation)
            self._actors.send(peer.identity, encode(Left()))
        elif isinstance(header, HandBack):
            self._table.hand_back(worker, header.id)
        elif isinstance(header, Cancel):
            self._table.cancel((True, peer.identity), header.id, now)
        elif isinstance(header, Ack):
            self._table.ack((True, peer.identity), header.ids)
        self._life.progress = self._table.done
        self._schedule()

    def _register(self, peer: Peer, header: Register, now: float) -> None:
        """Only the process that the supervisor announced may be this actor."""
        key = key_of(header.name, header.generation)
        if key not in self._table.workers:
            self._life.read()  # its announcement may be waiting to be read
        worker = self._table.workers.get(key)
        if worker is None or worker.pid != peer.pid:
            self._refuse(
                self._actors, peer, Denied(f"process {peer.pid} is not {header.name} of this daemon")
            )
            return
        self._registered[peer.identity] = worker
        self._actors.send(peer.identity, encode(Welcome()))
        self._table.register(worker, peer.identity, header.holds, now)

    def _decode(
        self, codec: Codec, listener: Listener, peer: Peer, message: bytes
    ) -> tuple[Any, bytes, bytes] | None:
        """The header, its frame to pass on, and the body; None for what is no message, which is refused."""
        try:
            frame, body = unpack(message)
            return codec.decode(frame), frame, body
        except msgspec.DecodeError as error:
            self._refuse(listener, peer, ProtocolMismatch(str(error)))
            return None

    def _refuse(self, listener: Listener, peer: Peer, error: Denied | ProtocolMismatch) -> None:
        self._note_refusal(peer, error)
        listener.send(peer.identity, encode(Refusal(error.code, error.message)), b"")

    def _note_refusal(self, peer: Peer, error: Denied | ProtocolMismatch) -> None:
        if self._throttle.admits(peer.uid):
            log.warning("refused a message of %r: %s", peer, error.message)
            self._life.notice("refused", "router", f"pid {peer.pid}: {error.message}", peer.uid)

    # --- clients that go away ----------------------------------------------------------------------------------------

    def _watch(self, peer: Peer) -> None:
        """Notices the death of a client's process, so that nobody works for it any longer."""
        watched = self._watched.get(peer.pid)
        if watched is not None:
            watched[1].add(peer.identity)
            if len(watched[1]) > _MOST_IDENTITIES:  # of connections that have been closed, mostly
                asking = {identity for identity in watched[1] if self._table.asks((False, identity))}
                self._watched[peer.pid] = (watched[0], asking | {peer.identity})
            return
        try:
            fd = os.pidfd_open(peer.pid)
        except OSError:  # gone already, or not to be seen from here (another pid namespace)
            return
        self._watched[peer.pid] = (fd, {peer.identity})
        self._loop.add_reader(fd, self._client_gone, peer.pid)

    def _client_gone(self, pid: int) -> None:
        fd, identities = self._watched.pop(pid)
        self._loop.remove_reader(fd)
        os.close(fd)
        self._clients.drain()  # what it said last comes first
        for identity in identities:
            self._clients.forget(identity)
            self._table.asker_gone((False, identity), self._loop.time())
        self._schedule()

    # --- the table's effects -----------------------------------------------------------------------------------------

    def _send(self, route: Route, header: bytes, body: bytes) -> None:
        listener = self._actors if route[0] else self._clients
        listener.send(route[1], header, body)

    def _stuck(self, name: str, generation: int) -> None:
        self._life.say(Stuck(name, generation))

    def _schedule(self) -> None:
        if self._table.settled and not self._settled.is_set():
            self._settled.set()
        when = self._table.next_tick(self._loop.time())
        if when is None or (self._tick is not None and self._tick_at <= when):
            return
        if self._tick is not None:
            self._tick.cancel()
        self._tick_at = when
        self._tick = self._loop.call_at(when, self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        self._actors.drain()  # what has been confirmed meanwhile, should we be late
        self._table.tick(self._loop.time())
        self._schedule()

    # --- the supervisor's words --------------------------------------------------------------------------------------

    def _word(self, word: Any) -> None:
        now = self._loop.time()
        if isinstance(word, Announce):
            self._table.announce(word.peers, word.whole)
            if word.whole:
                self._table.settle(now)
        elif isinstance(word, Gone):
            self._actors.drain()  # what it said last comes first
            if worker := self._table.workers.get(key_of(word.name, word.generation)):
                self._registered.pop(worker.address, None)
                self._actors.forget(worker.address)
            requests = self._table.gone(word.name, word.generation, now, blame=word.blame)
            self._life.say(Aftermath(word.name, word.generation, requests))
        elif isinstance(word, Failed):
            self._table.down(word.service, word.why)
        elif isinstance(word, Drain):
            if word.name:
                self._table.drain(word.name, word.generation)
            else:
                self._drained.set()
        self._schedule()


_decode_config = msgspec.msgpack.Decoder(
    RouterConfig
).decode  # made before the fork: it takes half a millisecond


async def serve(assign: Assign, lifeline: socket.socket, fds: list[int]) -> None:
    """Runs the router until it is drained. `fds`: the listening sockets for clients and for actors."""
    config = _decode_config(assign.config)
    await Router(config, assign, lifeline, fds).run()
