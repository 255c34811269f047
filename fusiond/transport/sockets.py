"""ZeroMQ sockets read from the asyncio loop, without `zmq.asyncio`: no future and no task for a message.

libzmq's file descriptor is edge-triggered: it says that something changed, not that something is there. So a reader
drains until `EAGAIN`, and a send outside a drain looks afterwards whether it swallowed the edge of an arrival
(http://api.zeromq.org/4-3:zmq-getsockopt, ZMQ_FD). Measured against `zmq.asyncio`: 230-270 µs a round trip over three
processes instead of 312.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import msgspec
import zmq
from zmq.backend import Socket as _Raw

from fusiond.protocol.envelope import pack, unpack
from fusiond.transport.access import Access, Role
from fusiond.transport.loops import DirectLoop

log = logging.getLogger(__name__)

MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes in one message; libzmq drops the connection of a peer that announces more."""
_BURST = 0.0001  # seconds: what is sent so soon after another message waits for those that follow
_KNOWN_PEERS = 4096  # remembered at once; whoever is forgotten is looked up again
_BATCH = 256  # messages read before timers and other sockets get their turn
_MONITOR_EVENT = struct.Struct("=hi")

# Plain integers and the compiled methods: pyzmq's Python layer over them costs more than the rest of a message.
_send, _recv, _get = _Raw.send, _Raw.recv, _Raw.get
_NOBLOCK, _SNDMORE, _NOBLOCK_SNDMORE = int(zmq.NOBLOCK), int(zmq.SNDMORE), int(zmq.NOBLOCK | zmq.SNDMORE)
_RCVMORE, _EVENTS, _POLLIN = int(zmq.RCVMORE), int(zmq.EVENTS), int(zmq.POLLIN)
_NO_TAKER = (int(zmq.EAGAIN), int(zmq.EHOSTUNREACH))


class _Turn:
    """One drain under way: the first message sent in it leaves at once, those that follow leave together at its end.

    Each message sent by itself wakes libzmq's thread, which costs more than everything else about it.
    """

    def __init__(self) -> None:
        self.running = False
        self.sent = False
        self.touched: list[_Socket] = []

    def end(self) -> None:
        """Sends what has been put off, on whichever socket."""
        self.running = self.sent = False
        touched, self.touched = self.touched, []
        for each in touched:
            each.flush()


_turn = _Turn()


class _Socket:
    """One ZeroMQ socket, drained from the running loop."""

    def __init__(self, kind: int, context: zmq.Context[zmq.Socket[bytes]] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self.zmq: zmq.Socket[bytes] = (context or zmq.Context.instance()).socket(kind)
        self.zmq.setsockopt(zmq.LINGER, 0)
        self.zmq.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        self._fd = int(self.zmq.getsockopt(zmq.FD))
        self._outbox: list[tuple[bytes, ...]] = []
        self._sent_at = 0.0
        self._flushing = False  # a flush is due at the end of this turn of the loop
        self._closed = False
        if isinstance(self._loop, DirectLoop):
            self._loop.on_readable(self._fd, self.drain)
        else:
            self._loop.add_reader(self._fd, self.drain)

    def drain(self) -> None:
        """Reads what is there, at most a batch, and hands each message on."""
        if self._closed:
            return
        nested, _turn.running = _turn.running, True
        try:
            self._take()
            if (
                self._arrived()
            ):  # asked once: cheaper than the exception, which is cheaper than asking each time
                self._take_on()
        except zmq.Again:
            return
        except (
            Exception
        ):  # one message that could not be handled; the others are not to wait for the next edge
            log.exception("a message could not be handled")
            self._loop.call_soon(self.drain)
        finally:
            if not nested:
                _turn.end()

    def _take_on(self) -> None:
        """Takes what else is there, at most a batch; ends with `zmq.Again`, or goes on in the loop's next turn."""
        for _ in range(_BATCH):
            self._take()
            if self._closed:
                return
        self._loop.call_soon(self.drain)

    def _arrived(self) -> bool:
        """Whether there is something to read; nothing is lost if not: the descriptor says so when it comes."""
        return not self._closed and bool(int(_get(self.zmq, _EVENTS)) & _POLLIN)

    def _take(self) -> None:
        """Receives and handles one message; raises `zmq.Again` when there is none."""
        raise NotImplementedError

    def _post(self, *frames: bytes) -> None:
        """Sends at once, or together with what else is sent in this drain or at this moment."""
        if _turn.running:
            if _turn.sent or self._outbox:  # in order, whatever is put off
                self._outbox.append(frames)
            else:
                _turn.sent = True
                self._send(frames)
            if self not in _turn.touched:
                _turn.touched.append(self)
            return
        now = self._loop.time()
        if self._outbox or now - self._sent_at < _BURST:
            self._outbox.append(frames)
            if not self._flushing:
                self._flushing = True
                self._loop.call_soon(self.flush)
        else:
            self._send(frames)
            self._look()
        self._sent_at = now

    def flush(self) -> None:
        """Sends what has been put off."""
        self._flushing = False
        if self._closed:
            return
        outbox, self._outbox = self._outbox, []
        for frames in outbox:
            self._send(frames)
        self._look()

    def _look(self) -> None:
        """Reads on if sending has swallowed the edge of an arrival."""
        if self._arrived():
            self._loop.call_soon(self.drain)

    def _send(self, frames: tuple[bytes, ...]) -> bool:
        """Sends unless there is nobody to send to or no room; returns whether it was sent."""
        try:
            for frame in frames[:-1]:
                _send(self.zmq, frame, _NOBLOCK_SNDMORE)
            _send(self.zmq, frames[-1], _NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in _NO_TAKER:
                raise
            return False
        return True

    def _more(self) -> bool:
        """Whether the message that is being received has further frames."""
        return bool(_get(self.zmq, _RCVMORE))

    def _skip(self) -> None:
        """Drops the further frames of a message that should have none."""
        while self._more():
            _recv(self.zmq, _NOBLOCK)

    def close(self, linger_ms: int = 0) -> None:
        """Closes the socket; what is queued may still leave within `linger_ms`."""
        if not self._closed:
            self.flush()
            self._closed = True
            if isinstance(self._loop, DirectLoop):
                self._loop.off_readable(self._fd)
            else:
                self._loop.remove_reader(self._fd)
            self.zmq.close(linger_ms)


class Dealer(_Socket):
    """A connecting socket that says when a connection stands: at first, and again after each loss."""

    def __init__(
        self,
        endpoint: str,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        super().__init__(zmq.DEALER, context)
        self._on_message: Callable[[bytes, bytes], None] = lambda _header, _body: None
        self._on_connected: Callable[[], None] = lambda: None
        self.connected = False
        self.zmq.setsockopt(zmq.IDENTITY, os.urandom(12))
        self.zmq.setsockopt(zmq.IMMEDIATE, 1)  # keep nothing for a peer that is not there
        self.zmq.setsockopt(zmq.RECONNECT_IVL, 1)  # ms; a recovery would wait for the default of 100
        self.zmq.setsockopt(zmq.SNDHWM, 0)
        self.zmq.setsockopt(zmq.RCVHWM, 0)
        self._monitor: zmq.Socket[bytes] = self.zmq.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        self._monitor_fd = int(self._monitor.getsockopt(zmq.FD))
        self._loop.add_reader(self._monitor_fd, self._watch)
        self.zmq.connect(endpoint)
        self._loop.call_soon(self._watch)

    def attend(self, on_message: Callable[[bytes, bytes], None], on_connected: Callable[[], None]) -> None:
        """Whom to tell from now on; `on_connected` at once if a connection stands already."""
        self._watch()  # before there is somebody to tell: a connection that stands is told once, below
        self._on_message, self._on_connected = on_message, on_connected
        if self.connected:
            on_connected()

    def _watch(self) -> None:
        while not self._closed:
            try:
                event, _ = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.connected = _MONITOR_EVENT.unpack(event)[0] == zmq.EVENT_HANDSHAKE_SUCCEEDED
            if self.connected:
                self._on_connected()

    def send(self, header: bytes, body: bytes = b"") -> bool:
        """Sends one message if a connection stands; returns whether one does."""
        if self.connected:
            self._post(pack(header, body))
        return self.connected

    def _take(self) -> None:
        message = _recv(self.zmq, _NOBLOCK)
        if self._more():
            self._skip()
        else:
            try:
                header, body = unpack(message)
            except msgspec.DecodeError:
                header, body = message, b""  # to be refused by whoever decodes it
            self._on_message(header, body)

    def close(self, linger_ms: int = 0) -> None:
        if not self._closed:
            self._loop.remove_reader(self._monitor_fd)
            self.zmq.disable_monitor()
            self._monitor.close(0)
            super().close(linger_ms)


class Peer:
    """Who is at the other end of a connection, as the kernel says."""

    __slots__ = ("identity", "pid", "role", "uid")

    def __init__(self, identity: bytes, pid: int, uid: int, role: Role | None) -> None:
        self.identity = identity
        self.pid = pid
        self.uid = uid
        self.role = role

    def __repr__(self) -> str:
        return f"Peer(pid={self.pid}, uid={self.uid})"


class Listener(_Socket):
    """A listening socket that hands on whole messages, packed as they came, with their sender.

    It stands over an already listening file descriptor, so that it is never away and never stolen.
    """

    def __init__(
        self,
        path: str,
        fd: int,
        on_message: Callable[[Peer, bytes], None],
        access: Access,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        super().__init__(zmq.ROUTER, context)
        self._access = access
        self._on_message = on_message
        self._peers: dict[bytes, tuple[str, Peer]] = {}
        self.zmq.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.zmq.setsockopt(zmq.SNDHWM, 100_000)
        self.zmq.setsockopt(zmq.RCVHWM, 0)
        self.zmq.setsockopt(zmq.BACKLOG, 4096)
        self.zmq.setsockopt(zmq.USE_FD, fd)
        self.zmq.bind(f"ipc://{path}")

    def send(self, identity: bytes, header: bytes, body: bytes = b"") -> None:
        """Sends one message; dropped if the peer is gone or takes nothing more."""
        self._post(identity, pack(header, body))

    def offer(self, identity: bytes, header: bytes, body: bytes) -> bool:
        """Sends one message at once; returns False if the peer is gone or takes nothing more."""
        sent = self._send((identity, pack(header, body)))
        self._look()
        return sent

    def forget(self, identity: bytes) -> None:
        """Drops what is known of a peer that is gone."""
        self._peers.pop(identity, None)

    def _take(self) -> None:
        identity = _recv(self.zmq, _NOBLOCK)
        frame = _recv(
            self.zmq, _NOBLOCK, False
        )  # as a frame: it knows its sender, and whether it is the last
        message = frame.bytes
        if frame.more:
            self._skip()
            message = b""
        address = frame.get("Peer-Address")
        known = self._peers.get(identity)
        if known is None or known[0] != address:
            uid, gid, pid = map(int, str(address).rsplit(":", 3)[1:])
            known = (str(address), Peer(identity, pid, uid, self._access.role(uid, gid)))
            if len(self._peers) >= _KNOWN_PEERS:
                self._peers.clear()
            self._peers[identity] = known
        self._on_message(known[1], message)


def listen(path: str, mode: int = 0o600, backlog: int = 4096) -> socket.socket:
    """A listening Unix socket at `path` with exactly `mode` from its first moment; replaces a stale one.

    Only whoever holds the home's lock may call this. Raises OSError.
    """
    Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~mode)
    try:
        listener.bind(path)
    finally:
        os.umask(before)
    listener.listen(backlog)
    return listener
