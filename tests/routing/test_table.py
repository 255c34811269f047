"""The router's table, event by event."""

from __future__ import annotations

import msgspec
import pytest

from fusiond.protocol.envelope import Chunk, Failure, Reply, Request, to_actor
from fusiond.routing.records import Route
from fusiond.routing.table import CONFIRM, PATIENCE, WINDOW
from fusiond.transport.ids import new_id
from tests.routing.world import SERVICE, FakeActor, World

ASKER: Route = (False, b"asker")


def ask(world: World, *, repeatable: bool = True, timeout_ms: int = 0, id: bytes | None = None) -> bytes:
    header = Request(id or new_id(), SERVICE, "complete", timeout_ms, repeatable)
    world.table.request(ASKER, header, b"body", world.now)
    return header.id


def ends(world: World, id: bytes) -> list[Reply | Failure]:
    return [h for h in world.received.get(ASKER, []) if not isinstance(h, Chunk) and h.id == id]


def codes(world: World, id: bytes) -> list[str]:
    return [end.code if isinstance(end, Failure) else "ok" for end in ends(world, id)]


def test_a_request_goes_to_the_least_loaded_actor() -> None:
    world = World(actors=2)
    for _ in range(6):
        ask(world)
    assert [len(actor.running) for actor in world.actors.values()] == [3, 3]


@pytest.mark.parametrize(("by_actor", "origin"), [(False, b"its own"), (True, b"what it says")])
def test_only_an_actor_may_say_what_a_request_follows_from(by_actor: bool, origin: bytes) -> None:
    world = World(actors=1)
    seen: list[bytes] = []
    forward = world.table._send

    def send(route: Route, frame: bytes, body: bytes) -> None:
        if isinstance(header := to_actor.decode(frame), Request):
            seen.append(header.origin)
        forward(route, frame, body)

    world.table._send = send
    header = Request(b"its own", SERVICE, "complete", origin=b"what it says")
    world.table.request((by_actor, b"asker"), header, b"", world.now)
    assert seen == [origin]


def test_a_reply_reaches_the_asker_and_is_forgotten_once_acknowledged() -> None:
    world = World(actors=1)
    id = ask(world)
    (actor,) = world.actors.values()
    world.reply(actor, id)
    assert codes(world, id) == ["ok"]
    world.table.ack(ASKER, [id])
    assert not world.table.entries
    world.advance(0.1)
    assert not actor.kept


def test_a_request_whose_actor_dies_before_it_begins_goes_to_another_silently() -> None:
    world = World(actors=2)
    id = ask(world, repeatable=True)
    first = next(actor for actor in world.actors.values() if id in actor.running)
    world.die(first)
    second = next(actor for actor in world.actors.values() if id in actor.running)
    assert second is not first
    assert codes(world, id) == []
    world.reply(second, id)
    assert codes(world, id) == ["ok"]


def test_what_may_not_run_twice_is_answered_outcome_unknown_once_it_has_begun() -> None:
    world = World(actors=1)
    id = ask(world, repeatable=False)
    (actor,) = world.actors.values()
    world.die(actor)
    assert codes(world, id) == ["outcome_unknown"]
    assert world.executions[id] == 1


def test_a_stream_that_breaks_after_its_first_chunk_is_interrupted() -> None:
    world = World(actors=1)
    id = ask(world)
    (actor,) = world.actors.values()
    world.chunk(actor, id)
    world.die(actor)
    assert codes(world, id) == ["interrupted"]


def test_a_request_that_ends_three_processes_is_poison() -> None:
    world = World(actors=1)
    id = ask(world)
    for _ in range(3):
        (actor,) = world.actors.values()
        assert codes(world, id) == []
        world.die(actor, blame=True)
    assert codes(world, id) == ["poison_request"]
    (actor,) = world.actors.values()
    assert id not in actor.running


def test_processes_killed_from_outside_make_no_poison() -> None:
    world = World(actors=1)
    id = ask(world)
    for _ in range(10):
        (actor,) = world.actors.values()
        world.die(actor)
    (actor,) = world.actors.values()
    world.reply(actor, id)
    assert codes(world, id) == ["ok"]


def test_past_the_bound_of_the_queue_the_answer_is_busy_with_a_time() -> None:
    world = World(actors=0, queue_size=2)
    waiting = [ask(world), ask(world)]
    refused = ask(world)
    assert codes(world, refused) == ["busy"]
    (end,) = ends(world, refused)
    assert isinstance(end, Failure)
    assert end.retry_after
    assert [codes(world, id) for id in waiting] == [[], []]


def test_what_waited_is_dispatched_in_order_when_an_actor_comes() -> None:
    world = World(actors=0)
    ids = [ask(world) for _ in range(3)]
    actor = world.spawn("llm.0")
    assert list(actor.running) == ids


def test_an_actor_holds_a_window_of_requests_and_the_rest_waits() -> None:
    world = World(actors=1, queue_size=1000)
    ids = [ask(world) for _ in range(WINDOW + 2)]
    (actor,) = world.actors.values()
    assert len(actor.running) == WINDOW
    world.reply(actor, ids[0])
    assert ids[WINDOW] in actor.running


def test_an_unknown_service_is_refused() -> None:
    world = World(actors=1)
    world.table.request(ASKER, Request(b"i" * 16, "nobody", "x"), b"", world.now)
    assert codes(world, b"i" * 16) == ["not_found"]
    assert not world.table.entries


def test_the_same_id_again_runs_once_and_is_answered_again() -> None:
    world = World(actors=1)
    id = ask(world)
    ask(world, id=id)
    (actor,) = world.actors.values()
    world.reply(actor, id)
    ask(world, id=id)
    world.deliver()
    assert world.executions[id] == 1
    assert codes(world, id) == ["ok", "ok"]


def test_past_its_deadline_a_request_is_answered_and_cancelled() -> None:
    world = World(actors=1)
    id = ask(world, timeout_ms=500)
    world.advance(0.45)
    assert codes(world, id) == []
    world.advance(0.25)
    assert codes(world, id) == ["deadline"]
    world.deliver()
    (actor,) = world.actors.values()
    assert not actor.running
    world.advance(CONFIRM + 0.1)
    assert world.stuck == []


def test_an_actor_that_does_not_confirm_a_cancel_is_stuck() -> None:
    world = World(actors=1)
    id = ask(world)
    (actor,) = world.actors.values()
    world.table.cancel(ASKER, id, world.now)
    world.mail.clear()  # it says nothing
    world.advance(CONFIRM + 0.1)
    assert world.stuck == [(actor.name, actor.generation)]
    assert codes(world, id) == ["cancelled"]


def test_when_the_asker_is_gone_its_work_is_cancelled_and_forgotten() -> None:
    world = World(actors=1)
    ask(world)
    world.table.asker_gone(ASKER, world.now)
    world.deliver()
    (actor,) = world.actors.values()
    assert not actor.running
    assert not world.table.entries


@pytest.mark.parametrize("answered", [False, True])
def test_after_a_restart_of_the_router_a_request_goes_on_where_it_is(answered: bool) -> None:
    world = World(actors=2)
    id = ask(world, repeatable=False)
    holder = next(actor for actor in world.actors.values() if id in actor.running)
    if answered:
        world.reply(holder, id)
        world.received.clear()
    world.restart_router()
    ask(world, repeatable=False, id=id)
    world.deliver()
    if not answered:
        world.reply(holder, id)
    assert codes(world, id) == ["ok"]
    assert world.executions[id] == 1


@pytest.mark.parametrize("asked_first", [False, True])
def test_an_answer_that_dies_with_its_actor_before_it_is_said_again_is_given_by_another(
    asked_first: bool,
) -> None:
    world = World(actors=2)
    id = ask(world)
    holder = next(actor for actor in world.actors.values() if id in actor.running)
    world.reply(holder, id, lost=True)
    world.begin_router()
    if asked_first:
        ask(world, id=id)
    world.register_all()
    if not asked_first:
        ask(world, id=id)
    world.die(holder)  # what it has said once more is still on its way
    world.deliver()
    other = next(actor for actor in world.actors.values() if id in actor.running)
    world.reply(other, id)
    assert codes(world, id) == ["ok"]


def test_after_a_restart_nothing_is_dispatched_until_every_actor_is_back() -> None:
    world = World(actors=2)
    first, second = world.actors.values()
    world.table = world._table()
    world.table.announce([first.peer, second.peer], whole=True)
    world.table.register(world.worker(first), first.key, [], world.now)
    id = ask(world)
    assert not first.running
    world.table.register(world.worker(second), second.key, [], world.now)
    assert world.executions[id] == 1


def test_patience_ends_and_only_what_may_run_twice_is_dispatched() -> None:
    world = World(actors=2)
    first, second = world.actors.values()
    world.table = world._table()
    world.table.announce([first.peer, second.peer], whole=True)
    world.table.register(world.worker(first), first.key, [], world.now)
    once, twice = ask(world, repeatable=False), ask(world)
    world.advance(PATIENCE)
    assert world.executions == {twice: 1}
    world.table.register(world.worker(second), second.key, [], world.now)
    assert world.executions == {twice: 1, once: 1}


def test_a_restarted_router_does_not_wait_for_an_actor_that_is_still_starting() -> None:
    world = World(actors=2)
    first, second = world.actors.values()
    starting = msgspec.structs.replace(second.peer, ready=False)
    world.table = world._table()
    world.table.announce([first.peer, starting], whole=True)
    world.table.register(world.worker(first), first.key, [], world.now)
    assert world.table.settled
    twice = ask(world)
    assert world.executions == {twice: 1}


def test_an_actor_younger_than_the_router_can_hold_nothing_and_is_not_waited_for() -> None:
    world = World(actors=1)
    late = FakeActor(f"{SERVICE}.9", 99)
    world.table.announce([late.peer])
    once = ask(world, repeatable=False)
    assert world.executions == {once: 1}


def test_a_held_request_that_nobody_claims_is_cancelled() -> None:
    world = World(actors=1)
    id = ask(world)
    world.restart_router()
    world.advance(11)
    world.deliver()
    (actor,) = world.actors.values()
    assert id not in actor.running
    assert not world.table.entries


def test_a_reply_of_an_actor_that_does_not_hold_the_request_is_not_passed_on() -> None:
    world = World(actors=2)
    id = ask(world)
    other = next(actor for actor in world.actors.values() if id not in actor.running)
    from fusiond.protocol.envelope import encode

    assert not world.table.terminal(world.worker(other), id, encode(Reply(id)), b"forged")
    assert codes(world, id) == []


def test_a_draining_actor_gets_nothing_new() -> None:
    world = World(actors=2)
    first, second = world.actors.values()
    world.table.drain(first.name, first.generation)
    for _ in range(4):
        ask(world)
    assert (len(first.running), len(second.running)) == (0, 4)


@pytest.mark.parametrize("said", [False, True], ids=["not begun", "begun, and nothing was done"])
def test_a_draining_actor_hands_back_what_it_has_not_done(said: bool) -> None:
    world = World(actors=2)
    id = ask(world, repeatable=False)
    first = next(actor for actor in world.actors.values() if id in actor.running)
    if said:
        world.table.started(world.worker(first), id)
    del first.running[id]
    world.table.hand_back(world.worker(first), id)
    second = next(actor for actor in world.actors.values() if id in actor.running)
    assert second is not first
    world.reply(second, id)
    assert codes(world, id) == ["ok"]


def test_what_has_said_something_is_not_handed_back() -> None:
    world = World(actors=2)
    id = ask(world)
    first = next(actor for actor in world.actors.values() if id in actor.running)
    world.chunk(first, id)
    world.table.hand_back(world.worker(first), id)
    assert [id in actor.running for actor in world.actors.values()].count(True) == 1
    world.reply(first, id)
    assert codes(world, id) == ["ok"]


def test_an_answer_that_died_with_its_actor_is_made_again_when_it_is_asked_for() -> None:
    world = World(actors=1)
    id = ask(world)
    (actor,) = world.actors.values()
    world.reply(actor, id)
    world.received.clear()
    world.restart_router()
    world.die(actor)
    ask(world, id=id)
    (other,) = world.actors.values()
    world.reply(other, id)
    assert codes(world, id) == ["ok"]


@pytest.mark.parametrize("actors_first", [True, False])
def test_what_was_asked_of_the_router_before_is_taken_back_here(actors_first: bool) -> None:
    world = World(actors=1)
    id = ask(world)
    world.begin_router()
    if actors_first:
        world.register_all()
    world.table.cancel(ASKER, id, world.now)
    assert codes(world, id) == ["cancelled"]
    if not actors_first:
        world.register_all()
    (actor,) = world.actors.values()
    assert id not in actor.running
    world.deliver()
    world.advance(CONFIRM)
    assert world.stuck == []
    assert not actor.kept
    assert not world.table.entries


def test_what_is_asked_again_finds_a_place_where_new_requests_do_not() -> None:
    world = World(actors=1, queue_size=1)
    held = [ask(world) for _ in range(3)]
    world.begin_router()
    for id in held:
        ask(world, id=id)
    assert [codes(world, id) for id in held] == [[], [], []]
    world.register_all()
    (actor,) = world.actors.values()
    for id in held:
        world.reply(actor, id)
    assert [codes(world, id) for id in held] == [["ok"], ["ok"], ["ok"]]


def test_what_actors_ask_for_work_under_way_is_never_refused_for_want_of_room() -> None:
    world = World(actors=0, queue_size=1)
    colleague: Route = (True, b"agent.0")
    ids = [new_id() for _ in range(5)]
    for id in ids:
        world.table.request(colleague, Request(id, SERVICE, "complete"), b"", world.now)
    assert set(world.table.entries) == set(ids)


def test_an_id_stands_for_one_request_only() -> None:
    world = World(actors=1)
    id = ask(world)
    world.table.request(ASKER, Request(id, "bogus", "ping"), b"", world.now)
    assert codes(world, id) == ["bad_request"]
    (first,) = world.actors.values()
    world.die(first)
    (second,) = world.actors.values()
    assert id in second.running


def test_a_service_that_has_failed_is_said_to_have_failed_until_somebody_serves_it() -> None:
    world = World(actors=0)
    waiting = ask(world)
    world.table.down(SERVICE, "its file is damaged")
    later = ask(world)
    assert codes(world, waiting) == codes(world, later) == ["not_running"]
    world.spawn("llm.0")
    assert world.executions == {ask(world): 1}


def test_a_service_with_another_actor_has_not_failed() -> None:
    world = World(actors=1)
    world.table.down(SERVICE, "one of two")
    assert world.executions == {ask(world): 1}


def test_a_stream_whose_actor_died_by_its_own_doing_is_told_so() -> None:
    world = World(actors=1)
    (actor,) = world.actors.values()
    by_hand, by_itself = ask(world), ask(world)
    world.chunk(actor, by_itself)
    world.die(actor, blame=True)
    (actor,) = world.actors.values()
    world.chunk(actor, by_hand)
    world.die(actor)
    assert (codes(world, by_itself), codes(world, by_hand)) == (["crashed"], ["interrupted"])


def test_what_is_asked_again_and_held_by_nobody_counts_as_given_to_one_who_died() -> None:
    world = World(actors=1)
    seen: list[int] = []
    world.table._send = lambda route, frame, body: seen.append(to_actor.decode(frame).attempt)  # type: ignore[union-attr]
    for attempt in (1, 2):
        world.table.request(ASKER, Request(new_id(), SERVICE, "complete", attempt=attempt), b"", world.now)
    assert seen == [1, 2]
