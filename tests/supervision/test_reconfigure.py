"""A new configuration: what changed is replaced, what went is forgotten, what is new begins."""

from __future__ import annotations

import pytest

from fusiond.supervision.effects import Drain, Spawn
from fusiond.supervision.events import Beat, Reconfigured, StopAsked
from fusiond.supervision.spec import Limits

from .scene import Scene, spec

OLD = spec("llm.0", fingerprint="old")
NEW = spec("llm.0", fingerprint="new")
STORE = spec("store")


def test_the_unchanged_are_untouched() -> None:
    scene = Scene(STORE, OLD).all_ready()
    before = scene.state.children
    assert scene.feed(Reconfigured((STORE, OLD))) == ()
    assert scene.state.children == before


def test_the_changed_is_drained_and_replaced() -> None:
    scene = Scene(STORE, OLD).all_ready()
    scene.feed(Reconfigured((STORE, NEW)))
    assert scene.done() == [Drain("llm.0", 1)]
    assert scene["llm.0"].spec == OLD
    scene.exits("llm.0", 0)
    assert scene.done() == [Spawn("llm.0", 2)]
    child = scene["llm.0"]
    assert (child.spec, child.next_spec) == (NEW, None)
    assert child.last_exit is not None
    assert child.last_exit.reason == "reload"
    assert child.restarts_at == ()


def test_the_removed_is_drained_and_forgotten() -> None:
    scene = Scene(STORE, OLD).all_ready()
    scene.feed(Reconfigured((STORE,)))
    assert scene.done() == [Drain("llm.0", 1)]
    scene.exits("llm.0", 0)
    assert scene.done() == []
    assert list(scene.state.children) == ["store"]


def test_the_removed_go_last_first() -> None:
    scene = Scene(STORE, OLD, spec("agent.0")).all_ready()
    scene.feed(Reconfigured(()))
    assert scene.done() == [Drain("agent.0", 1), Drain("llm.0", 1), Drain("store", 1)]


def test_the_new_is_spawned_in_its_place_of_the_order() -> None:
    scene = Scene(STORE, OLD).all_ready()
    scene.feed(Reconfigured((STORE, spec("llm.1"), OLD)))
    assert scene.done() == [Spawn("llm.1", 1)]
    assert list(scene.state.children) == ["store", "llm.1", "llm.0"]


def test_no_generation_is_ever_used_twice() -> None:
    scene = Scene(STORE, OLD).all_ready()
    scene.killed("llm.0")
    scene.ready("llm.0")
    scene.feed(Reconfigured((STORE,)))
    scene.exits("llm.0", 0)
    scene.feed(Reconfigured((STORE, OLD)))
    assert scene.done() == [Spawn("llm.0", 3)]
    assert scene.feed(Beat("llm.0", 2)) == ()


def test_one_that_is_wanted_again_before_it_is_gone_is_replaced() -> None:
    scene = Scene(STORE, OLD).all_ready()
    scene.feed(Reconfigured((STORE,)))
    scene.feed(Reconfigured((STORE, OLD)))
    scene.exits("llm.0", 0)
    assert scene.done() == [Spawn("llm.0", 2)]


def test_one_that_changes_twice_gets_the_last() -> None:
    last = spec("llm.0", fingerprint="last")
    scene = Scene(STORE, OLD).all_ready()
    scene.feed(Reconfigured((STORE, NEW)))
    scene.feed(Reconfigured((STORE, last)))
    scene.exits("llm.0", 0)
    assert scene["llm.0"].spec == last


def test_other_patience_alone_needs_no_other_process() -> None:
    patient = spec("llm.0", fingerprint="old", startup_timeout_s=90.0)
    scene = Scene(STORE, OLD).all_ready()
    assert scene.feed(Reconfigured((STORE, patient))) == ()
    assert scene["llm.0"].spec == patient


@pytest.mark.parametrize("failures", [2, 6])
def test_who_waits_for_another_try_gets_it_with_the_new_configuration(failures: int) -> None:
    scene = Scene(OLD)
    while scene["llm.0"].failures < failures:
        scene.exits("llm.0") if scene["llm.0"].live else scene.wake()
    scene.feed(Reconfigured((NEW,)))
    assert scene.spawns("llm.0")
    assert (scene["llm.0"].spec, scene["llm.0"].failures) == (NEW, 0)


@pytest.mark.parametrize("failures", [2, 6])
def test_who_waits_for_another_try_and_is_removed_is_forgotten_at_once(failures: int) -> None:
    scene = Scene(OLD)
    while scene["llm.0"].failures < failures:
        scene.exits("llm.0") if scene["llm.0"].live else scene.wake()
    scene.feed(Reconfigured(()))
    assert scene.state.children == {}


def test_who_was_stopped_by_hand_stays_so_with_the_new_configuration() -> None:
    scene = Scene(OLD).all_ready()
    scene.feed(StopAsked("llm.0"))
    scene.feed(Reconfigured((NEW,)))
    scene.exits("llm.0", 0)
    assert (scene["llm.0"].state, scene["llm.0"].spec) == ("stopped", NEW)


def test_new_limits_hold_from_now_on() -> None:
    scene = Scene(OLD)
    scene.feed(Reconfigured((OLD,), Limits(max_failures=0)))
    scene.exits("llm.0")
    assert scene["llm.0"].state == "failed"
    scene.feed(Reconfigured((OLD,)))
    assert scene.state.limits.max_failures == 0
