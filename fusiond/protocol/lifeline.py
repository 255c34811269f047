"""What the supervisor and its own processes say to each other.

Every process of the tree is born holding one end of a socket pair, its lifeline; the supervisor holds the other.
Nobody else can write to it, so a heartbeat needs no proof of who sent it; its end means that the other side is gone.
One datagram is one struct.
"""

from __future__ import annotations

import msgspec

from fusiond.protocol.control import Fault, Requests


class Peer(msgspec.Struct, frozen=True, array_like=True):
    """A live actor, as the router must know it. `service`: what it serves, "" for none.

    `ready`: it has served before, so it may hold requests; one that is starting holds none.
    """

    name: str
    generation: int
    pid: int
    service: str
    ready: bool = False


# --- from the supervisor ---------------------------------------------------------------------------------------------


class Fork(msgspec.Struct, frozen=True, tag=True):
    """To the fork server: one more blank child, please."""


class Assign(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """To a blank child: become this actor. `config` is the msgpack encoding of what its `create` takes.

    `journal`: it logs to systemd's. With it come file descriptors: the actor's log, and for the router its two
    listening sockets (clients, actors).
    """

    name: str
    kind: str
    service: str
    generation: int
    heartbeat_interval_ms: int
    config: bytes
    log_level: str = "INFO"
    journal: bool = False
    standby: bool = False


class Promote(msgspec.Struct, frozen=True, tag=True):
    """To a standby: take this name and generation, and register."""

    name: str
    generation: int


class Relog(msgspec.Struct, frozen=True, tag=True):
    """To any process: its log goes on in another file, whose descriptor comes along."""


class Announce(msgspec.Struct, frozen=True, tag=True):
    """To the router: these actors live; they, and nobody else, may register. `whole`: there are no others."""

    peers: list[Peer]
    whole: bool = False


class Gone(msgspec.Struct, frozen=True, tag=True):
    """To the router: this generation is dead; nothing more comes from it. `blame`: by its own doing."""

    name: str
    generation: int
    blame: bool = False


class Failed(msgspec.Struct, frozen=True, tag=True):
    """To the router: this service's actor has failed, for the reason `why`; it is tried again only now and then."""

    service: str
    why: str


class Drain(msgspec.Struct, frozen=True, tag=True):
    """To an actor: take no new work, finish what you have, exit. To the router: this actor drains."""

    name: str = ""
    generation: int = 0


class Commit(msgspec.Struct, frozen=True, tag=True):
    """To an actor: commit this fault (`kill --fault`)."""

    fault: Fault


ToProcess = Fork | Assign | Promote | Relog | Announce | Gone | Failed | Drain | Commit

# --- to the supervisor -----------------------------------------------------------------------------------------------


class Blank(msgspec.Struct, frozen=True, tag=True):
    """From the fork server, with the supervisor's end of the blank child's lifeline. `warmth`: modules preloaded."""

    pid: int
    warmth: int


class Warm(msgspec.Struct, frozen=True, tag=True):
    """From the fork server: more is preloaded now; blanks of less `warmth` may be retired."""

    warmth: int


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The actor serves."""


class Loading(msgspec.Struct, frozen=True, tag=True):
    """The actor is about to block its loop for long (to load a model): the start-up deadline holds again."""


class StartFailed(msgspec.Struct, frozen=True, tag=True):
    """The actor cannot start, in its own words; it exits after this."""

    message: str


class Beat(msgspec.Struct, frozen=True, tag=True):
    """A heartbeat, sent from the actor's own event loop. `progress` counts what it has done since it started.

    `children`: the processes that it has started itself and that serve it: pooled workers, an MCP server.
    """

    seq: int
    lag_ms: float
    in_flight: int
    progress: int
    children: list[int] = []


class Aftermath(msgspec.Struct, frozen=True, tag=True):
    """From the router: what became of the requests of a dead generation."""

    name: str
    generation: int
    requests: Requests


class Stuck(msgspec.Struct, frozen=True, tag=True):
    """From the router: this actor did not confirm a cancel in time."""

    name: str
    generation: int


class Notice(msgspec.Struct, frozen=True, tag=True):
    """From any process: an event for the record. `uid`: whose doing it was."""

    kind: str
    actor: str
    detail: str = ""
    uid: int | None = None


ToSupervisor = Blank | Warm | Ready | Loading | StartFailed | Beat | Aftermath | Stuck | Notice

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
decode_to_process = msgspec.msgpack.Decoder(ToProcess).decode
decode_to_supervisor = msgspec.msgpack.Decoder(ToSupervisor).decode
