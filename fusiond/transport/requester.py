"""Requests over a connection that may be lost: what is pending is sent again, chunks come once and in order.

`Requests` is the book-keeping alone, over any `send`; `Requester` adds the socket of a client. An actor's host puts
`Requests` on the socket it serves on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

import msgspec
import zmq

from fusiond.errors import BadRequest, Cancelled, DeadlineExceeded, FusionError, ProtocolMismatch
from fusiond.protocol.envelope import (
    Ack,
    AnyHeader,
    Cancel,
    Chunk,
    Codec,
    Failure,
    Refusal,
    Reply,
    Request,
    encode,
    to_client,
)
from fusiond.transport.ids import current_request, new_id
from fusiond.transport.sockets import MAX_MESSAGE, Dealer

_ACK_DELAY = 0.02  # seconds an acknowledgement waits for a request to ride on
_LOOK = 0.25  # seconds between looks for what is overdue
_ENDS = (Reply, Failure)  # a tuple: `Reply | Failure` would be made anew for each message
_GRACE = 2.0  # seconds beyond the deadline in which the other side should say so itself


class Pending:
    """A request on its way, and the stream of its reply: iterate over the chunks, then take `result`."""

    __slots__ = (
        "_chunks",
        "_end",
        "_loop",
        "_received",
        "_requests",
        "_waiter",
        "asks",
        "attempt",
        "body",
        "due",
        "header",
    )

    def __init__(
        self,
        requests: Requests,
        header: Request,
        body: bytes,
        timeout: float | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._requests = requests
        self.header = header
        self.body = body
        self.attempt = 1
        self.asks = 0
        self._loop = loop
        self.due = None if timeout is None else self._loop.time() + timeout
        self._chunks: deque[bytes] = deque()
        self._received = 0
        self._waiter: asyncio.Future[None] | None = None
        self._end: bytes | FusionError | None = None

    def frame(self) -> bytes:
        """The header to send now: with what is left of the time, and from where the stream goes on."""
        left = 0 if self.due is None else max(1, int((self.due - self._loop.time()) * 1000))
        header, acks = self.header, self._requests.take_acks()
        return encode(
            Request(
                header.id,
                header.service,
                header.verb,
                left,
                header.repeatable,
                self._received,
                self.asks + 1,
                acks,
                origin=header.origin,
            )
        )

    def chunk(self, offset: int, piece: bytes) -> None:
        if (
            offset == self._received
        ):  # a repeated one is old, one beyond a gap comes again with what was missed
            self._received += 1
            self._chunks.append(piece)
            self._wake()

    def end(self, header: Reply | Failure, body: bytes) -> bool:
        """Takes the terminal reply; returns False if chunks before it are still missing."""
        if isinstance(header, Reply) and header.chunks > self._received:
            return False
        self.attempt = header.attempt
        self.finish(body if isinstance(header, Reply) else header.error())
        return True

    def finish(self, end: bytes | FusionError) -> None:
        if self._end is None:
            self._end = end
            self._wake()

    def cancel(self) -> None:
        """Takes the request back; `result` then raises `Cancelled`."""
        if self._end is None:
            self._requests.cancel(self.header.id)
            self.finish(Cancelled("cancelled"))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            self._waiter = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            while self._chunks:
                yield self._chunks.popleft()
            if self._end is not None:
                return
            await self._wait()

    async def result(self) -> bytes:
        """The terminal reply's body; raises the error it carries."""
        while self._end is None:
            await self._wait()
        end = self._end
        if isinstance(end, bytes):
            return end
        raise end


class Requests:
    """What one side has asked and not yet been answered."""

    def __init__(self, send: Callable[[bytes, bytes], bool]) -> None:
        self._send = send
        self._pending: dict[bytes, Pending] = {}
        self._revoked: set[bytes] = set()  # taken back, and not confirmed yet
        self._acks: list[bytes] = []
        self._flush: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._pending)

    def open(
        self, service: str, verb: str, body: bytes, timeout: float | None, repeatable: bool, id: bytes | None
    ) -> Pending:
        """Sends a request, now or as soon as there is a connection."""
        if len(body) > MAX_MESSAGE - 4096:
            raise BadRequest(f"the request has {len(body):,} bytes, at most {MAX_MESSAGE:,} fit")
        header = Request(
            id=id or new_id(), service=service, verb=verb, repeatable=repeatable, origin=current_request.get()
        )
        pending = Pending(self, header, body, timeout, self._loop)
        self._pending[header.id] = pending
        if timeout is not None and self._watch is None:
            self._watch = self._loop.call_later(_LOOK, self._overdue)
        self._ask(pending)
        return pending

    def _ask(self, pending: Pending) -> None:
        """Sends it if a connection stands."""
        if self._send(pending.frame(), pending.body):
            pending.asks += 1

    def _overdue(self) -> None:
        """Ends what the other side should have ended by itself; one timer for all, none for each."""
        self._watch = None
        now = self._loop.time()
        timed = [pending for pending in self._pending.values() if pending.due is not None]
        for pending in timed:
            if pending.due is not None and pending.due + _GRACE < now:
                self.cancel(pending.header.id)
                pending.finish(DeadlineExceeded("no answer within the deadline"))
        if timed:
            self._watch = self._loop.call_later(_LOOK, self._overdue)

    def resend(self) -> None:
        """Call when a (new) connection stands: takes back again what was, asks again for everything that is open."""
        for id in self._revoked:
            self._send(encode(Cancel(id)), b"")
        for pending in list(self._pending.values()):
            self._ask(pending)

    def cancel(self, id: bytes) -> None:
        if self._pending.pop(id, None) is not None:
            self._revoked.add(id)
            self._send(encode(Cancel(id)), b"")

    def deliver(self, header: AnyHeader, body: bytes) -> None:
        """Takes what came in: chunks and terminal replies."""
        if isinstance(header, Chunk):
            if pending := self._pending.get(header.id):
                pending.chunk(header.offset, body)
        elif isinstance(header, _ENDS):
            pending = self._pending.get(header.id)
            if pending is not None and not pending.end(header, body):
                self._ask(pending)  # chunks before the end were lost on the way
            else:
                self._pending.pop(header.id, None)
                self._revoked.discard(header.id)
                self._acknowledge(header.id)

    def _acknowledge(self, id: bytes) -> None:
        self._acks.append(id)
        if self._flush is None:
            self._flush = self._loop.call_later(_ACK_DELAY, self.flush)

    def take_acks(self) -> list[bytes]:
        acks, self._acks = self._acks, []
        return acks

    def flush(self) -> None:
        """Sends the acknowledgements that found nothing to ride on."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        if self._acks:
            self._send(encode(Ack(self.take_acks())), b"")

    def fail_all(self, error: FusionError) -> None:
        """Ends everything that is open with `error`, and takes it back."""
        for pending in list(self._pending.values()):
            self.cancel(pending.header.id)
            pending.finish(error)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


class Requester:
    """A client's connection to a router or control socket. Make it inside a running loop."""

    def __init__(
        self,
        endpoint: str,
        *,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        codec: Codec = to_client,
    ) -> None:
        self._codec = codec
        self._dealer = Dealer(endpoint, context)
        self._requests = Requests(self._dealer.send)
        self._dealer.attend(self._deliver, self._connected)

    @property
    def connected(self) -> bool:
        """A connection stands, its handshake done."""
        return self._dealer.connected

    async def request(
        self,
        service: str,
        verb: str,
        body: bytes = b"",
        *,
        timeout: float | None = None,
        repeatable: bool = True,
        id: bytes | None = None,
    ) -> bytes:
        """Asks and waits; returns the reply's body, raises the `FusionError` of a failure.

        Cancelling the waiting task takes the request back.
        """
        return await self._requests.open(service, verb, body, timeout, repeatable, id).result()

    def stream(
        self,
        service: str,
        verb: str,
        body: bytes = b"",
        *,
        timeout: float | None = None,
        repeatable: bool = True,
        id: bytes | None = None,
    ) -> Pending:
        """Asks; iterate over the chunks of the reply, then await its `result()`."""
        return self._requests.open(service, verb, body, timeout, repeatable, id)

    async def close(self, why: FusionError | None = None) -> None:
        """Takes back what is open, which ends with the error `why`, and closes the connection."""
        self._requests.fail_all(why or Cancelled("the connection was closed"))
        self._requests.flush()
        self._dealer.close(linger_ms=100)

    def _connected(self) -> None:
        self._requests.resend()

    def _deliver(self, header: bytes, body: bytes) -> None:
        try:
            decoded = self._codec.decode(header)
        except msgspec.DecodeError as error:
            self._requests.fail_all(
                ProtocolMismatch(
                    f"the daemon's answer is not understood: {error}", advice="restart it: fusionctl stop"
                )
            )
            return
        if isinstance(decoded, Refusal):
            refused = Failure(b"", decoded.code, decoded.message)
            self._requests.fail_all(refused.error())
        else:
            self._requests.deliver(decoded, body)
