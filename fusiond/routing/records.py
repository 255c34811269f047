"""What the table keeps of each actor and of each request."""

from __future__ import annotations

from enum import IntEnum

from fusiond.protocol.envelope import Request
from fusiond.protocol.lifeline import Peer

Route = tuple[bool, bytes]
"""Where an asker is: (is it an actor, its socket identity)."""


class Phase(IntEnum):
    WAITING = 0
    SENT = 1
    RUNNING = 2
    ANSWERED = 3


class Worker:
    """A live actor. `key`: `name#generation`. `address`: the identity of its connection, once it has registered."""

    __slots__ = (
        "acks",
        "address",
        "draining",
        "generation",
        "held",
        "key",
        "name",
        "older",
        "pid",
        "ready",
        "registered",
        "service",
        "unconfirmed",
    )

    def __init__(self, peer: Peer, older: bool = False) -> None:
        self.name = peer.name
        self.generation = peer.generation
        self.key = key_of(peer.name, peer.generation)
        self.pid = peer.pid
        self.address = b""
        self.service = peer.service
        self.older = older  # than this router: it may hold requests of the one before
        self.ready = peer.ready
        self.registered = False
        self.draining = False
        self.held: set[bytes] = set()  # ids sent to it and not ended
        self.acks: list[bytes] = []  # acknowledgements to pass on
        self.unconfirmed: dict[bytes, float] = {}  # cancelled ids → when it is stuck


class Entry:
    """One request."""

    __slots__ = ("body", "chunked", "deaths", "due", "header", "phase", "route", "tries", "uid", "worker")

    def __init__(
        self, header: Request | None, body: bytes, route: Route | None, due: float | None, uid: int = -1
    ) -> None:
        self.header = header  # None: held by an actor at a restart, its asker has not come back yet
        self.body = body
        self.route = route
        self.due = due
        self.uid = uid
        self.phase = Phase.WAITING
        self.worker: Worker | None = None
        self.chunked = False
        self.deaths = 0  # processes that ended by its doing
        self.tries = 0  # how often it was given to an actor


def key_of(name: str, generation: int) -> bytes:
    """An incarnation's name: never that of the one before it."""
    return f"{name}#{generation}".encode()
