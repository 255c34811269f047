"""The end of everything: in two waves, last first, and nothing new."""

from __future__ import annotations

import pytest

from fusiond.supervision.effects import Drain, Finished, Signal
from fusiond.supervision.events import Boot, Reconfigured, RestartAsked, Shutdown, StartAsked
from fusiond.supervision.policy import next_wake, step
from fusiond.supervision.state import Supervision

from .scene import Scene, spec, standby


def tree() -> Scene:
    names = ("forkserver", "router", "store", "llm.0", "agent.0")
    return Scene(*(spec(name) for name in names)).all_ready()


def test_the_core_outlives_the_rest_and_each_wave_goes_last_first() -> None:
    scene = tree()
    scene.feed(Shutdown())
    assert scene.done() == [Drain("agent.0", 1), Drain("llm.0", 1)]
    scene.exits("llm.0", 0)
    assert scene.done() == []
    scene.exits("agent.0", 0)
    assert scene.done() == [Drain("store", 1), Drain("router", 1), Drain("forkserver", 1)]
    scene.exits("forkserver", 0)
    scene.exits("router", 0)
    assert scene.done() == []
    scene.exits("store", 0)
    assert scene.done() == [Finished()]
    assert {child.state for child in scene.state.children.values()} == {"stopped"}
    assert next_wake(scene.state) is None


def test_who_does_not_go_is_told_by_term_and_then_by_kill() -> None:
    scene = Scene(spec("llm.0", heartbeat_timeout_s=60.0)).all_ready()
    scene.feed(Shutdown())
    scene.wake()
    assert scene.done() == [Signal("llm.0", 1, "TERM")]
    scene.wake()
    assert scene.done() == [Signal("llm.0", 1, "KILL")]
    scene.killed("llm.0")
    assert scene.done() == [Finished()]


def test_a_second_shutdown_changes_nothing() -> None:
    scene = tree()
    scene.feed(Shutdown())
    before = scene.state
    assert scene.feed(Shutdown()) == ()
    assert scene.state is before


def test_finished_comes_once() -> None:
    scene = Scene(spec("llm.0")).all_ready()
    scene.feed(Shutdown())
    scene.exits("llm.0", 0)
    scene.later(1.0).tick()
    scene.feed(Shutdown())
    assert scene.log.count(Finished()) == 1


def test_with_nobody_there_it_is_finished_at_once() -> None:
    after, effects = step(Supervision(), Shutdown(), 1.0)
    assert effects == (Finished(),)
    assert step(after, Shutdown(), 2.0) == (after, ())


def test_one_of_the_core_that_dies_in_the_first_wave_is_not_replaced() -> None:
    scene = tree()
    scene.feed(Shutdown())
    scene.killed("router")
    assert scene["router"].state == "stopped"
    assert scene.done() == []


def test_one_of_the_core_that_was_to_be_restarted_is_not() -> None:
    scene = tree()
    scene.feed(RestartAsked("store"))
    scene.feed(Shutdown())
    scene.exits("store", 0)
    assert scene["store"].state == "stopped"
    assert scene.done() == []


def test_a_hung_one_is_killed_and_not_replaced() -> None:
    scene = tree()
    scene.wake()
    scene.feed(Shutdown())
    scene.wake()
    assert Signal("llm.0", 1, "KILL") in scene.effects
    scene.killed("llm.0")
    assert scene["llm.0"].state == "stopped"


@pytest.mark.parametrize("failures", [2, 6])
def test_who_waits_for_another_try_waits_no_longer(failures: int) -> None:
    scene = Scene(spec("llm.0"), spec("router"))
    while scene["llm.0"].failures < failures or scene["router"].failures < failures:
        for name in ("llm.0", "router"):
            if scene[name].live and scene[name].failures < failures:
                scene.exits(name)
        if any(scene[name].waiting and scene[name].failures < failures for name in ("llm.0", "router")):
            scene.wake()
    scene.feed(Shutdown())
    assert {child.state for child in scene.state.children.values()} == {"stopped"}
    assert scene.done() == [Finished()]


@pytest.mark.parametrize(
    "event", [StartAsked("agent.0"), RestartAsked("agent.0"), Boot((spec("x"),)), Reconfigured((spec("x"),))]
)
def test_nobody_is_started_any_more(event: StartAsked | RestartAsked | Boot | Reconfigured) -> None:
    scene = tree()
    scene.feed(Shutdown())
    scene.exits("agent.0", 0)
    scene.feed(event)
    assert scene.effects == ()
    scene.exits("llm.0", 0)
    assert [type(effect) for effect in scene.done()] == [Drain] * 3


def test_nobody_is_promoted_any_more() -> None:
    scene = Scene(spec("llm.0"), standby()).all_ready()
    scene.feed(Shutdown())
    scene.killed("llm.0")
    assert scene.done() == []


def test_a_process_under_way_is_waited_for() -> None:
    scene = Scene(spec("llm.0"))
    scene.feed(Shutdown())
    assert scene.done() == []
    scene.spawned("llm.0")
    assert scene.done() == [Drain("llm.0", 1)]
    scene.exits("llm.0", 0)
    assert scene.done() == [Finished()]
