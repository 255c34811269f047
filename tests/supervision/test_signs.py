"""Who is taken for hung, stopped or never started, and when; and who is not."""

from __future__ import annotations

import pytest

from fusiond.supervision.deadlines import EXCUSES
from fusiond.supervision.effects import Dump, Signal
from fusiond.supervision.events import RestartAsked, StuckReported
from fusiond.supervision.policy import next_wake

from .scene import Scene, spec, standby

KILL = Signal("llm.0", 1, "KILL")
DUMP = Dump("llm.0", 1)


def one(**changes: object) -> Scene:
    return Scene(spec("llm.0", **changes))


def cause(scene: Scene) -> tuple[str, str]:
    found = scene["llm.0"].cause
    assert found is not None
    return found.reason, found.detail


# --- heartbeats -----------------------------------------------------------------------------------


def test_a_hung_one_dumps_its_stacks_and_is_killed_50_ms_later() -> None:
    scene = one().all_ready()
    heard = scene.now
    scene.wake()
    assert scene.now == heard + 2.0
    assert scene.done() == [DUMP]
    assert scene.records() == ["missed"]
    assert cause(scene) == ("hung", "no heartbeat for 2000 ms")
    scene.wake()
    assert scene.now == pytest.approx(heard + 2.05)
    assert scene.done() == [KILL]
    assert scene.record("killed").detail == "hung: no heartbeat for 2000 ms"


def test_a_hung_one_is_replaced_at_once_like_any_that_had_been_ready() -> None:
    scene = one().all_ready()
    scene.wake()
    noticed = scene.now
    scene.wake()
    scene.later(0.001).killed("llm.0")
    assert scene.spawns("llm.0")
    assert scene["llm.0"].failures == 0
    last = scene["llm.0"].last_exit
    assert last is not None
    assert (last.reason, last.detail) == ("hung", "no heartbeat for 2000 ms")
    scene.later(0.005).ready("llm.0")
    assert scene.record("replaced").ms == pytest.approx((scene.now - noticed) * 1000)


def test_kill_is_repeated_until_the_exit_is_seen() -> None:
    scene = one().all_ready()
    scene.wake()
    for _ in range(3):
        scene.wake()
        assert scene.done() == [KILL]
    assert [getattr(effect, "kind", "") for effect in scene.log].count("killed") == 1


def test_a_heartbeat_keeps_it_alive() -> None:
    scene = one().all_ready()
    for _ in range(20):
        scene.later(1.9).beat("llm.0")
        assert scene.tick() == ()
    assert next_wake(scene.state) == scene.now + 2.0


def test_a_heartbeat_does_not_save_one_that_is_condemned() -> None:
    scene = one().all_ready()
    scene.wake()
    scene.later(0.01).beat("llm.0")
    scene.wake()
    assert scene.done() == [KILL]


def test_a_standby_is_judged_like_a_ready_one() -> None:
    scene = Scene(standby()).all_ready()
    scene.wake()
    assert scene.done() == [Dump("llm.spare", 1)]


def test_no_heartbeat_is_expected_of_one_that_starts() -> None:
    scene = one()
    scene.spawned("llm.0")
    assert scene.later(29.9).tick() == ()


def test_a_tick_that_comes_too_early_changes_nothing() -> None:
    scene = one().all_ready()
    before = scene.state
    assert scene.later(1.999).tick() == ()
    assert scene.state is before


# --- start-up and loading -------------------------------------------------------------------------


def test_a_start_that_takes_too_long_is_ended_and_is_a_failure() -> None:
    scene = one()
    asked = scene.now
    scene.later(0.01).spawned("llm.0")
    scene.wake()
    assert scene.now == asked + 30.0
    assert scene.done() == [DUMP]
    assert cause(scene) == ("start_timeout", "not ready after 30 s")
    scene.wake()
    assert scene.done() == [KILL]
    scene.killed("llm.0")
    assert scene["llm.0"].failures == 1
    last = scene["llm.0"].last_exit
    assert last is not None
    assert last.reason == "start_timeout"


def test_heartbeats_do_not_prolong_the_start() -> None:
    scene = one()
    scene.spawned("llm.0")
    for _ in range(30):
        scene.later(1.0).beat("llm.0")
        scene.tick()
    assert cause(scene)[0] == "start_timeout"


def test_one_that_loads_may_be_silent_for_the_start_up_time() -> None:
    scene = one().all_ready()
    scene.later(1.0).loading("llm.0")
    began = scene.now
    assert scene["llm.0"].state == "ready"
    assert scene["llm.0"].loading
    assert scene.later(29.9).tick() == ()
    scene.wake()
    assert scene.now == began + 30.0
    assert cause(scene)[0] == "start_timeout"
    scene.killed("llm.0")
    assert scene["llm.0"].failures == 1


def test_after_loading_heartbeats_are_expected_again() -> None:
    scene = one().all_ready()
    scene.loading("llm.0")
    scene.later(10.0).ready("llm.0")
    assert not scene["llm.0"].loading
    loaded = scene.now
    scene.wake()
    assert scene.now == loaded + 2.0
    assert cause(scene)[0] == "hung"


def test_loading_during_the_start_begins_the_start_up_time_anew() -> None:
    scene = one()
    scene.spawned("llm.0")
    scene.later(20.0).loading("llm.0")
    began = scene.now
    scene.wake()
    assert scene.now == began + 30.0


def test_a_spawn_that_is_never_answered_is_condemned_and_killed_as_soon_as_it_exists() -> None:
    scene = one()
    scene.wake()
    assert scene.done() == []
    assert scene["llm.0"].state == "draining"
    for _ in range(3):
        scene.wake()
        assert scene.effects == ()
    scene.later(0.1).spawned("llm.0")
    assert scene.done() == [KILL]


# --- stopped by a signal --------------------------------------------------------------------------


def test_a_stopped_one_is_killed_without_a_dump_when_the_timeout_is_over() -> None:
    scene = one().all_ready()
    heard = scene.now
    scene.later(0.5).stop_seen("llm.0")
    assert scene.done() == []
    scene.wake()
    assert scene.now == heard + 2.0
    assert scene.done() == [KILL]
    assert cause(scene) == ("hung", "stopped by a signal")


def test_a_stopped_one_is_not_given_the_whole_start_up_time() -> None:
    scene = one()
    scene.spawned("llm.0")
    scene.later(5.0).stop_seen("llm.0")
    seen = scene.now
    scene.wake()
    assert scene.now == seen + 2.0
    assert scene.done() == [KILL]
    assert cause(scene) == ("hung", "stopped by a signal")
    scene.killed("llm.0")
    assert scene["llm.0"].failures == 1


def test_a_stopped_one_that_loads_is_not_given_the_whole_start_up_time_either() -> None:
    scene = one().all_ready()
    scene.loading("llm.0")
    scene.later(5.0).stop_seen("llm.0")
    seen = scene.now
    scene.wake()
    assert scene.now == seen + 2.0
    assert scene.done() == [KILL]


@pytest.mark.parametrize("word", ["beat", "ready", "loading"])
def test_a_sign_of_life_means_that_it_is_stopped_no_more(word: str) -> None:
    scene = one().all_ready()
    scene.stop_seen("llm.0")
    getattr(scene.later(1.0), word)("llm.0")
    assert scene["llm.0"].stop_seen_at is None
    scene.wake()
    assert scene.done() == [DUMP]


def test_being_seen_stopped_twice_gives_no_more_time() -> None:
    scene = one()
    scene.spawned("llm.0")
    scene.stop_seen("llm.0")
    seen = scene.now
    scene.later(1.0).stop_seen("llm.0")
    scene.wake()
    assert scene.now == seen + 2.0


# --- stuck ----------------------------------------------------------------------------------------


def test_a_stuck_one_is_dumped_and_killed_though_it_beats() -> None:
    scene = one().all_ready()
    scene.feed(StuckReported("llm.0", 1))
    assert scene.done() == [DUMP]
    assert cause(scene) == ("stuck", "did not confirm a cancel")
    scene.later(0.01).beat("llm.0")
    scene.wake()
    assert scene.done() == [KILL]
    scene.killed("llm.0")
    assert scene.spawns("llm.0")


def test_being_reported_twice_changes_nothing() -> None:
    scene = one().all_ready()
    scene.feed(StuckReported("llm.0", 1))
    before = scene.state
    assert scene.feed(StuckReported("llm.0", 1)) == ()
    assert scene.state is before


# --- the supervisor's own lateness ----------------------------------------------------------------


def test_a_late_supervisor_judges_nobody_and_grants_an_interval() -> None:
    scene = one().all_ready().later(10.0)
    assert scene.tick(late_s=8.0) == ()
    assert scene["llm.0"].state == "ready"
    noticed = scene.now
    scene.wake()
    assert scene.now == noticed + 0.25
    assert scene.done() == [DUMP]


def test_who_is_heard_within_that_interval_lives() -> None:
    scene = one().all_ready().later(10.0)
    scene.tick(late_s=8.0)
    scene.later(0.2).beat("llm.0")
    assert scene.later(0.1).tick() == ()
    assert scene["llm.0"].excuses == 0


def test_half_an_interval_is_not_late() -> None:
    scene = one().all_ready().later(2.0)
    scene.tick(late_s=0.125)
    assert scene.done() == [DUMP]


def test_the_smallest_interval_of_all_says_what_is_late() -> None:
    scene = Scene(spec("llm.0"), spec("agent.0", heartbeat_interval_s=0.05)).all_ready().later(2.0)
    scene.tick(late_s=0.03)
    assert scene.effects == ()


def test_lateness_excuses_a_start_too() -> None:
    scene = one()
    scene.spawned("llm.0")
    assert scene.later(30.0).tick(late_s=1.0) == ()
    scene.wake()
    assert scene.done() == [DUMP]


def test_lateness_long_before_a_deadline_excuses_nobody() -> None:
    scene = one().all_ready()
    heard = scene.now
    scene.later(1.0).tick(late_s=1.0)
    assert scene["llm.0"].excuses == 0
    assert next_wake(scene.state) == heard + 2.0


def test_on_a_machine_where_the_supervisor_is_always_late_the_hung_are_still_found() -> None:
    scene = one().all_ready().later(2.0)
    for _ in range(EXCUSES):
        assert scene.tick(late_s=0.5) == ()
        scene.later(0.5)
    scene.tick(late_s=0.5)
    assert scene.done() == [DUMP]


def test_one_that_drains_is_excused_too() -> None:
    scene = one().all_ready()
    scene.feed(RestartAsked("llm.0"))
    scene.later(2.0).tick(late_s=1.0)
    assert scene.effects == ()
    scene.wake()
    assert scene.done() == [DUMP]
