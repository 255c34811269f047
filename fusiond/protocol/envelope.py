"""The header of every message on `router.sock`, `actors.sock` and `supervisor.sock`, and its codec.

A message is one ZeroMQ frame: four bytes with the length of the header (big-endian), the header, the body. The
header is `MAGIC` followed by one msgpack-encoded struct of this module. The body is opaque here: the router reads
headers, never bodies. `MAGIC` carries the version of the protocol, so a peer of another version is recognised from
any message of its.

The life of a request: `Request` → (`Started`) → `Chunk`* → `Reply` or `Failure` → acknowledged by `acks` or `Ack`.
Sending a `Request` again under the same id is always safe: whoever holds the id continues it, from `offset` on.
"""

from __future__ import annotations

import msgspec

from fusiond.errors import FusionError, from_wire

VERSION = 1
MAGIC = b"FU\x01"
"""The first bytes of every header; the last of them is the version of the protocol."""


UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises: for what is nothing of the kind, for text that is no UTF-8, for nesting without end."""


class _Header(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pass


class Request(_Header, frozen=True, tag="q"):
    """Asks `service` to do `verb`.

    `id`: 16 bytes made by whoever asks (UUIDv7). `timeout_ms`: what is left of its deadline, 0 for none.
    `repeatable`: may run twice if the first actor dies. `offset`: how many chunks the asker already holds.
    `attempt`: 1, and one more for each time the router had to send it to another actor.
    `acks`: terminal replies received since the last message.
    `origin`: the id of the client's request from which this one follows, for the logs; empty for one that has none.
    """

    id: bytes
    service: str
    verb: str
    timeout_ms: int = 0
    repeatable: bool = True
    offset: int = 0
    attempt: int = 1
    acks: list[bytes] = []
    uid: int = -1  # who asks, filled in by the router from the socket; what a client writes here is ignored
    origin: bytes = b""


class Cancel(_Header, frozen=True, tag="x"):
    """Whoever asked takes `id` back, or its time is up. The actor confirms with a terminal reply at once."""

    id: bytes


class Ack(_Header, frozen=True, tag="a"):
    """These terminal replies have arrived; nobody need keep them."""

    ids: list[bytes]


class Started(_Header, frozen=True, tag="s"):
    """The actor has begun on `id`. Left out where the reply follows at once."""

    id: bytes


class HandBack(_Header, frozen=True, tag="h"):
    """The actor drains and has not begun on `id`: it is another's to do."""

    id: bytes


class Chunk(_Header, frozen=True, tag="c"):
    """Piece number `offset` (from 0) of the stream `id`."""

    id: bytes
    offset: int


class Reply(_Header, frozen=True, tag="r"):
    """The good end of `id`, after `chunks` pieces. `attempt` is the attempt that made it."""

    id: bytes
    attempt: int = 1
    chunks: int = 0


class Failure(_Header, frozen=True, tag="f"):
    """The bad end of `id`: an error of `fusiond.errors` by its code. `retry_after` in seconds."""

    id: bytes
    code: str
    message: str
    advice: str = ""
    retry_after: float | None = None
    attempt: int = 1

    def error(self) -> FusionError:
        return from_wire(self.code, self.message, self.advice, self.retry_after)


class Held(_Header, frozen=True):
    """A request that an actor holds when it registers: begun, or answered and not yet acknowledged."""

    id: bytes
    answered: bool


class Register(_Header, frozen=True, tag="g"):
    """An actor's first message on each connection to `actors.sock`."""

    name: str
    generation: int
    holds: list[Held] = []


class Welcome(_Header, frozen=True, tag="w"):
    """The router's answer to `Register`: requests may come from now on."""


class Leave(_Header, frozen=True, tag="l"):
    """An actor is about to end. The router answers when it has taken everything that the actor said before."""


class Left(_Header, frozen=True, tag="b"):
    """The router's answer to `Leave`: nothing else comes after this."""


class Refusal(_Header, frozen=True, tag="n"):
    """A message that could not be taken, where no request's id is known."""

    code: str
    message: str


FromClient = Request | Cancel | Ack
FromActor = Register | Request | Cancel | Ack | Started | HandBack | Chunk | Reply | Failure | Leave
ToClient = Chunk | Reply | Failure | Refusal
ToActor = Welcome | Request | Cancel | Ack | Chunk | Reply | Failure | Left | Refusal
AnyHeader = FromActor | ToActor

_encoder = msgspec.msgpack.Encoder()


def encode(header: AnyHeader) -> bytes:
    """The header's frame."""
    return MAGIC + _encoder.encode(header)


def pack(header: bytes, body: bytes) -> bytes:
    """The message of an encoded header and its body."""
    return len(header).to_bytes(4, "big") + header + body


def unpack(message: bytes) -> tuple[bytes, bytes]:
    """The encoded header and the body of a message; raises `msgspec.DecodeError` for what is none."""
    end = 4 + int.from_bytes(message[:4], "big")
    if end > len(message):
        raise msgspec.DecodeError("not a Fusion message")
    return message[4:end], message[end:]


class Codec:
    """Decodes header frames into one union of the headers above; raises `msgspec.DecodeError` on anything else."""

    def __init__(self, union: object) -> None:
        self._decode = msgspec.msgpack.Decoder(union).decode

    def decode(self, frame: bytes) -> AnyHeader:
        if frame[:3] != MAGIC:
            if frame[:2] == MAGIC[:2] and len(frame) > 2:
                raise msgspec.DecodeError(f"protocol version {frame[2]}, this side speaks {VERSION}")
            raise msgspec.DecodeError("not a Fusion message")
        try:
            header: AnyHeader = self._decode(memoryview(frame)[3:])
        except (ValueError, RecursionError) as error:  # bytes that are no UTF-8, nesting without end
            raise msgspec.DecodeError(str(error)) from None
        return header


from_client = Codec(FromClient)
from_actor = Codec(FromActor)
to_client = Codec(ToClient)
to_actor = Codec(ToActor)


def failure(id: bytes, error: FusionError, attempt: int = 1) -> Failure:
    """`error` as the terminal reply of `id`."""
    return Failure(id, error.code, error.message, error.advice, error.retry_after, attempt)
