"""A small world around the routing table: askers, actors and the messages between them, without a socket or a clock."""

from __future__ import annotations

from fusiond.protocol.envelope import (
    Ack,
    Cancel,
    Chunk,
    Failure,
    Held,
    Reply,
    Request,
    encode,
    from_actor,
    to_actor,
)
from fusiond.protocol.lifeline import Peer
from fusiond.routing.records import Route, Worker, key_of
from fusiond.routing.table import Table

SERVICE = "llm"


class FakeActor:
    """An actor as the host makes one: it knows its requests by id, repeats what it is asked for again, and keeps its
    terminal replies until they are acknowledged."""

    def __init__(self, name: str, generation: int) -> None:
        self.name = name
        self.generation = generation
        self.key = key_of(name, generation)
        self.running: dict[bytes, int] = {}  # id → chunks made
        self.kept: dict[bytes, Reply | Failure] = {}  # id → the terminal reply

    @property
    def peer(self) -> Peer:
        return Peer(self.name, self.generation, self.generation + 1000, SERVICE, ready=True)

    @property
    def holds(self) -> list[Held]:
        return [Held(id, False) for id in self.running] + [Held(id, True) for id in self.kept]


class World:
    """`received`: what each asker has got of each request, in order. `executions`: how often each request was begun."""

    def __init__(self, actors: int = 2, queue_size: int = 4) -> None:
        self.now = 0.0
        self.queue_size = queue_size
        self.actors: dict[bytes, FakeActor] = {}
        self.received: dict[Route, list[Reply | Failure | Chunk]] = {}
        self.executions: dict[bytes, int] = {}
        self.stuck: list[tuple[str, int]] = []
        self.generation = 0
        self.mail: list[tuple[FakeActor, Chunk | Reply | Failure]] = []
        self.table = self._table()
        self.table.announce([], whole=True)
        self.table.settle(self.now)
        for number in range(actors):
            self.spawn(f"{SERVICE}.{number}")

    def _table(self) -> Table:
        return Table(
            self._send,
            lambda name, generation: self.stuck.append((name, generation)),
            queue_size=self.queue_size,
            services=[SERVICE],
            now=self.now,
        )

    # --- actors ------------------------------------------------------------------------------------------------------

    def spawn(self, name: str) -> FakeActor:
        self.generation += 1
        actor = FakeActor(name, self.generation)
        self.actors[actor.key] = actor
        self.table.announce([actor.peer])
        self.table.register(self.worker(actor), actor.key, [], self.now)
        return actor

    def worker(self, actor: FakeActor) -> Worker:
        return self.table.workers[actor.key]

    def die(self, actor: FakeActor, *, blame: bool = False) -> None:
        del self.actors[actor.key]
        self.table.gone(actor.name, actor.generation, self.now, blame=blame)
        self.spawn(actor.name)

    def chunk(self, actor: FakeActor, id: bytes, *, lost: bool = False) -> None:
        """`lost`: while there is no router."""
        number = actor.running[id]
        actor.running[id] += 1
        if not lost:
            self.table.chunk(self.worker(actor), id, encode(Chunk(id, number)), b"piece")

    def reply(self, actor: FakeActor, id: bytes, *, lost: bool = False) -> None:
        actor.kept[id] = Reply(id, 1, actor.running.pop(id))
        if not lost:
            self.table.terminal(self.worker(actor), id, encode(actor.kept[id]), b"done")

    # --- the router --------------------------------------------------------------------------------------------------

    def restart_router(self) -> None:
        """A new table: told who lives, it hears from each what it holds."""
        self.begin_router()
        self.register_all()

    def begin_router(self) -> None:
        """A new table that has been told who lives."""
        self.mail.clear()
        self.table = self._table()
        self.table.announce([actor.peer for actor in self.actors.values()], whole=True)

    def register_all(self) -> None:
        for actor in list(self.actors.values()):
            self.table.register(self.worker(actor), actor.key, actor.holds, self.now)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.table.tick(self.now)

    def _send(self, route: Route, frame: bytes, body: bytes) -> None:
        is_actor, key = route
        if not is_actor:
            header = from_actor.decode(frame)
            assert isinstance(header, Reply | Failure | Chunk)
            self.received.setdefault(route, []).append(header)
            return
        actor = self.actors.get(key)
        if actor is None:
            return
        header = to_actor.decode(frame)
        if isinstance(header, Request):
            self._serve(actor, header)
        elif isinstance(header, Cancel):
            self._confirm(actor, header.id)
        elif isinstance(header, Ack):
            for id in header.ids:
                actor.kept.pop(id, None)

    def _serve(self, actor: FakeActor, header: Request) -> None:
        for id in header.acks:
            actor.kept.pop(id, None)
        if header.id in actor.kept:
            end = actor.kept[header.id]
            for number in range(header.offset, end.chunks if isinstance(end, Reply) else 0):
                self.mail.append((actor, Chunk(header.id, number)))
            self.mail.append((actor, end))
        elif header.id in actor.running:
            for number in range(header.offset, actor.running[header.id]):
                self.mail.append((actor, Chunk(header.id, number)))
        else:
            actor.running[header.id] = 0
            self.executions[header.id] = self.executions.get(header.id, 0) + 1
            if not header.repeatable:
                self.table.started(self.worker(actor), header.id)

    def _confirm(self, actor: FakeActor, id: bytes) -> None:
        """As the host does: a cancel is confirmed at once."""
        actor.running.pop(id, None)
        actor.kept[id] = Failure(id, "cancelled", "cancelled")
        self.mail.append((actor, actor.kept[id]))

    def deliver(self) -> None:
        """Hands over what actors have answered: it arrives after the table has finished what it was at."""
        mail, self.mail = self.mail, []
        for actor, header in mail:
            if actor.key not in self.actors:
                continue
            if isinstance(header, Chunk):
                self.table.chunk(self.worker(actor), header.id, encode(header), b"piece")
            else:
                self.table.terminal(self.worker(actor), header.id, encode(header), b"done")
