"""The polite end, step by step, and what a person's orders do to it."""

from __future__ import annotations

import pytest

from fusiond.supervision.effects import Drain, Dump, Signal, Spawn
from fusiond.supervision.events import RestartAsked, SpawnFailed, StartAsked, StopAsked, StuckReported

from .scene import Scene, spec

DRAIN = Drain("llm.0", 1)
TERM = Signal("llm.0", 1, "TERM")
KILL = Signal("llm.0", 1, "KILL")


def one(**changes: object) -> Scene:
    return Scene(spec("llm.0", **changes)).all_ready()


def beating_wake(scene: Scene) -> None:
    """To the next thing that is due, with a heartbeat every second."""
    target = scene["llm.0"].wake_at
    assert target is not None
    while scene.now + 1.0 < target:
        scene.later(1.0).beat("llm.0")
    scene.now = target
    scene.tick()


def test_drain_then_term_then_kill() -> None:
    scene = one()
    asked = scene.now
    scene.feed(RestartAsked("llm.0"))
    assert scene.done() == [DRAIN]
    beating_wake(scene)
    assert (scene.now, scene.done()) == (asked + 5.0, [TERM])
    beating_wake(scene)
    assert (scene.now, scene.done()) == (asked + 6.0, [KILL])
    assert scene.record("killed").detail == "restart"


def test_with_a_short_grace_kill_follows_term_after_half_of_it() -> None:
    scene = one(shutdown_grace_s=0.4)
    asked = scene.now
    scene.feed(RestartAsked("llm.0"))
    scene.wake()
    assert scene.done() == [TERM]
    scene.wake()
    assert scene.now == pytest.approx(asked + 0.6)
    assert scene.done() == [KILL]


def test_restart_drains_and_spawns_after_the_exit() -> None:
    scene = one()
    scene.feed(RestartAsked("llm.0"))
    scene.later(0.2).exits("llm.0", 0)
    assert scene.done() == [Spawn("llm.0", 2)]
    last = scene["llm.0"].last_exit
    assert last is not None
    assert (last.reason, last.detail) == ("restart", "status 0")
    scene.later(0.01).ready("llm.0")
    assert scene.record("replaced").ms == pytest.approx(10.0)
    assert scene["llm.0"].restarts == 1


def test_restart_brings_a_temporary_one_back_too() -> None:
    scene = one(restart="temporary")
    scene.feed(RestartAsked("llm.0"))
    scene.exits("llm.0", 0)
    assert scene.spawns("llm.0")


def test_stop_drains_and_leaves_it_stopped_by_hand() -> None:
    scene = one()
    scene.feed(StopAsked("llm.0"))
    assert scene.done() == [DRAIN]
    scene.exits("llm.0", 0)
    child = scene["llm.0"]
    assert (child.state, child.by_hand, child.degraded) == ("stopped", True, False)
    assert scene.record("stopped").detail == "by hand"
    assert child.last_exit is not None
    assert (child.last_exit.reason, child.last_exit.detail) == ("exit", "status 0")


def test_one_that_dies_while_it_is_being_stopped_is_not_replaced() -> None:
    scene = one()
    scene.feed(StopAsked("llm.0"))
    scene.killed("llm.0")
    assert scene["llm.0"].state == "stopped"
    assert scene.done() == []


def test_start_brings_a_stopped_one_back_and_counts_as_no_restart() -> None:
    scene = one()
    scene.feed(StopAsked("llm.0"))
    scene.exits("llm.0", 0)
    scene.feed(StartAsked("llm.0"))
    assert scene.spawns("llm.0")
    assert (scene["llm.0"].by_hand, scene["llm.0"].restarts) == (False, 0)
    scene.ready("llm.0")
    assert scene.records() == ["ready"]


@pytest.mark.parametrize("failures", [2, 6])
def test_stop_ends_the_waiting(failures: int) -> None:
    scene = Scene(spec("llm.0"))
    while scene["llm.0"].failures < failures:
        scene.exits("llm.0") if scene["llm.0"].live else scene.wake()
    scene.feed(StopAsked("llm.0"))
    assert (scene["llm.0"].state, scene["llm.0"].by_hand) == ("stopped", True)
    assert scene.later(100.0).tick() == ()


def test_stopping_one_that_ended_by_itself_makes_it_stopped_by_hand() -> None:
    scene = one(restart="temporary")
    scene.exits("llm.0", 0)
    assert scene["llm.0"].degraded
    scene.feed(StopAsked("llm.0"))
    assert not scene["llm.0"].degraded


@pytest.mark.parametrize(("second", "state"), [(RestartAsked, "starting"), (StartAsked, "starting")])
def test_a_person_who_thinks_better_of_a_stop_is_obeyed(
    second: type[RestartAsked | StartAsked], state: str
) -> None:
    scene = one()
    scene.feed(StopAsked("llm.0"))
    scene.feed(second("llm.0"))
    assert scene.done() == []
    scene.exits("llm.0", 0)
    assert scene["llm.0"].state == state


def test_a_person_who_thinks_better_of_a_restart_is_obeyed() -> None:
    scene = one()
    scene.feed(RestartAsked("llm.0"))
    scene.feed(StopAsked("llm.0"))
    scene.exits("llm.0", 0)
    assert scene["llm.0"].state == "stopped"


def test_one_that_hangs_while_it_drains_is_killed_without_waiting_for_the_grace() -> None:
    scene = one()
    scene.feed(RestartAsked("llm.0"))
    scene.wake()
    assert scene.done() == [Dump("llm.0", 1)]
    scene.wake()
    assert scene.done() == [KILL]
    scene.killed("llm.0")
    assert scene.spawns("llm.0")
    last = scene["llm.0"].last_exit
    assert last is not None
    assert last.reason == "hung"


def test_a_hung_one_that_is_to_be_stopped_is_killed_and_stays_stopped() -> None:
    scene = one()
    scene.wake()
    scene.feed(StopAsked("llm.0"))
    scene.wake()
    assert scene.done() == [KILL]
    scene.killed("llm.0")
    child = scene["llm.0"]
    assert (child.state, child.last_exit and child.last_exit.reason) == ("stopped", "hung")


def test_one_that_is_stuck_while_it_drains_is_killed_too() -> None:
    scene = one()
    scene.feed(RestartAsked("llm.0"))
    scene.feed(StuckReported("llm.0", 1))
    assert scene.done() == [Dump("llm.0", 1)]
    scene.killed("llm.0")
    assert scene.spawns("llm.0")


def test_one_that_is_stopped_by_a_signal_while_it_drains_is_killed() -> None:
    scene = Scene(spec("llm.0"))
    scene.spawned("llm.0")
    scene.feed(StopAsked("llm.0"))
    scene.stop_seen("llm.0")
    seen = scene.now
    scene.wake()
    assert (scene.now, scene.done()) == (seen + 2.0, [KILL])


def test_one_that_loads_while_it_drains_has_its_grace() -> None:
    scene = one()
    asked = scene.now
    scene.feed(RestartAsked("llm.0"))
    scene.loading("llm.0")
    scene.wake()
    assert (scene.now, scene.done()) == (asked + 5.0, [TERM])


def test_one_that_becomes_ready_while_it_drains_still_goes() -> None:
    scene = Scene(spec("llm.0"))
    scene.spawned("llm.0")
    scene.feed(RestartAsked("llm.0"))
    scene.ready("llm.0")
    assert scene["llm.0"].state == "draining"
    scene.exits("llm.0", 0)
    assert scene.spawns("llm.0")


def test_a_process_that_is_not_wanted_any_more_when_it_comes_is_drained_then() -> None:
    scene = Scene(spec("llm.0"))
    scene.feed(StopAsked("llm.0"))
    assert scene.done() == []
    scene.later(1.0).spawned("llm.0")
    assert scene.done() == [DRAIN]
    came = scene.now
    scene.wake()
    assert (scene.now, scene.done()) == (came + 5.0, [TERM])
    scene.killed("llm.0", "SIGTERM")
    assert scene["llm.0"].state == "stopped"


def test_a_process_that_never_came_needs_no_end() -> None:
    scene = Scene(spec("llm.0"))
    scene.feed(StopAsked("llm.0"))
    scene.feed(SpawnFailed("llm.0", 1, "no memory"))
    assert scene["llm.0"].state == "stopped"
