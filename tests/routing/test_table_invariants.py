"""Whatever happens in whatever order: one end for each request, no run too many, nothing kept."""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from fusiond.protocol.envelope import Chunk, Reply, Request
from fusiond.routing.records import Route
from fusiond.transport.ids import new_id
from tests.routing.world import SERVICE, FakeActor, World


class Routing(RuleBasedStateMachine):
    """Askers that behave as ours do: they repeat what is unanswered, take the first end, acknowledge it."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.world = World(actors=2, queue_size=3)
        self.open: dict[bytes, tuple[Route, Request]] = {}
        self.ends: dict[bytes, list[str]] = {}
        self.chunks: dict[bytes, int] = {}  # those that each asker has, in order and without a gap
        self.repeatable: dict[bytes, bool] = {}
        self.vanished: set[Route] = set()

    def _route(self, number: int) -> Route:
        return (False, b"asker%d" % number)

    def _ask(self, id: bytes) -> None:
        route, header = self.open[id]
        again = msgspec.structs.replace(header, offset=self.chunks[id])
        self.world.table.request(route, again, b"body", self.world.now)

    def _read(self) -> None:
        """Every asker takes what has come and acknowledges what is over."""
        self.world.deliver()
        for route, headers in list(self.world.received.items()):
            self.world.received[route] = []
            for header in headers:
                if isinstance(header, Chunk):
                    self.chunks[header.id] += header.offset == self.chunks[header.id]
                    continue
                if isinstance(header, Reply) and header.chunks > self.chunks[header.id]:
                    continue  # no end yet: what is missing comes when it is asked again
                if route not in self.vanished and header.id in self.open:
                    del self.open[header.id]
                    code = "ok" if isinstance(header, Reply) else header.code
                    self.ends.setdefault(header.id, []).append(code)
                self.world.table.ack(route, [header.id])
        self.world.deliver()

    @rule(
        target=ids,
        asker=st.integers(0, 2),
        repeatable=st.booleans(),
        timeout_ms=st.sampled_from([0, 300, 3000]),
    )
    def ask(self, asker: int, repeatable: bool, timeout_ms: int) -> bytes:
        route = self._route(asker)
        self.vanished.discard(route)
        header = Request(new_id(), SERVICE, "complete", timeout_ms, repeatable)
        self.open[header.id] = (route, header)
        self.chunks[header.id] = 0
        self.repeatable[header.id] = repeatable
        self.world.table.request(route, header, b"body", self.world.now)
        self._read()
        return header.id

    @rule(id=ids)
    def ask_again(self, id: bytes) -> None:
        if id in self.open:
            self._ask(id)
            self._read()

    @rule(id=consumes(ids))
    def take_back(self, id: bytes) -> None:
        if id in self.open:
            self.world.table.cancel(self.open[id][0], id, self.world.now)
            self._read()

    @rule(asker=st.integers(0, 2))
    def asker_vanishes(self, asker: int) -> None:
        route = self._route(asker)
        self.vanished.add(route)
        self.open = {id: item for id, item in self.open.items() if item[0] != route}
        self.world.table.asker_gone(route, self.world.now)
        self._read()

    @rule(pick=st.randoms(use_true_random=False), what=st.sampled_from(["chunk", "reply", "reply"]))
    def an_actor_works(self, pick: object, what: str) -> None:
        busy = [(actor, id) for actor in self.world.actors.values() for id in actor.running]
        if busy:
            actor, id = pick.choice(busy)  # type: ignore[attr-defined]
            getattr(self.world, what)(actor, id)
            self._read()

    @rule(number=st.integers(0, 1), blame=st.booleans())
    def an_actor_dies(self, number: int, blame: bool) -> None:
        actor: FakeActor = list(self.world.actors.values())[number]
        self.world.die(actor, blame=blame)
        self._read()

    @rule(
        meanwhile=st.lists(st.sampled_from(["chunk", "reply"]), max_size=3),
        askers_first=st.booleans(),
        leaving=st.booleans(),
    )
    def the_router_restarts(self, meanwhile: list[str], askers_first: bool, leaving: bool) -> None:
        """Askers and actors come back in any order; what they have said `meanwhile` is lost. `leaving`: the first
        asker has taken back all it had asked."""
        taken_back = [id for id, (route, _) in self.open.items() if leaving and route == self._route(0)]
        for id in taken_back:
            del self.open[id]
        for what in meanwhile:
            for actor in self.world.actors.values():
                for id in list(actor.running):
                    getattr(self.world, what)(actor, id, lost=True)
        self.world.begin_router()
        if not askers_first:
            self.world.register_all()
        for id in taken_back:
            self.world.table.cancel(self._route(0), id, self.world.now)
        for id in list(self.open):
            self._ask(id)
        if askers_first:
            self.world.register_all()
        self._read()

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.5]))
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)
        self._read()

    @invariant()
    def no_request_has_two_ends(self) -> None:
        assert all(len(ends) == 1 for ends in self.ends.values())

    @invariant()
    def nothing_runs_twice_unless_it_may(self) -> None:
        for id, times in self.world.executions.items():
            assert times <= 1 or self.repeatable[id], f"{id.hex()} ran {times} times"

    @invariant()
    def what_is_open_is_known_or_waiting(self) -> None:
        assert set(self.open) <= set(self.world.table.entries)

    def teardown(self) -> None:
        """Let everything come to its end: then nobody waits, and nothing is kept."""
        for _ in range(60):
            for actor in list(self.world.actors.values()):
                for id in list(actor.running):
                    self.world.reply(actor, id)
            self._read()
            self.world.advance(1.5)
            self._read()
        assert not self.open, f"no end for {[id.hex() for id in self.open]}"
        table = self.world.table
        assert not table.entries
        assert not table._asked
        assert not table._due
        assert not any(worker.held or worker.unconfirmed or worker.acks for worker in table.workers.values())
        assert not any(table._waiting.values())
        assert not any(actor.kept for actor in self.world.actors.values())


TestRouting = Routing.TestCase
TestRouting.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
