"""A warm twin: it waits, takes over at once, and is replaced itself."""

from __future__ import annotations

import pytest

from fusiond.supervision.effects import Drain, Promote, Spawn
from fusiond.supervision.events import Beat, Reconfigured, RestartAsked, StartAsked, StopAsked
from fusiond.supervision.spec import Limits

from .scene import Scene, spec, standby

PROMOTE = Promote("llm.0", 2, "llm.spare")


def pair(limits: Limits | None = None, **changes: object) -> Scene:
    return Scene(spec("llm.0", **changes), standby(), limits=limits).all_ready()


def refill(scene: Scene) -> None:
    """The promoted process has had its time alone; now the standby begins anew."""
    scene.later(scene.state.limits.refill_s).tick()
    assert scene.spawns("llm.spare")


def test_ready_makes_it_a_standby() -> None:
    assert pair()["llm.spare"].state == "standby"


def test_it_takes_over_at_once_and_its_own_place_is_filled_again() -> None:
    scene = pair().later(1.0)
    scene.beat("llm.spare")
    pid, seen = scene["llm.spare"].pid, scene.now
    scene.later(0.5).killed("llm.0")
    assert scene.done() == [PROMOTE]
    assert scene.records() == ["exited", "promoted"]
    llm, spare = scene["llm.0"], scene["llm.spare"]
    assert (llm.state, llm.pid, llm.generation, llm.last_seen) == ("ready", pid, 2, seen)
    assert (llm.restarts, llm.failures) == (1, 0)
    assert llm.last_exit is not None
    assert llm.last_exit.recovered_s is None
    assert (spare.state, spare.pid, spare.generation) == ("backoff", None, 1)
    assert scene.later(0.9).tick() == ()
    scene.beat("llm.0")
    scene.later(0.1).tick()
    assert scene.done() == [Spawn("llm.spare", 2)]


def test_the_loss_is_made_good_when_it_says_that_it_serves_under_its_new_name() -> None:
    scene = pair().later(1.0)
    scene.killed("llm.0")
    scene.later(0.004).ready("llm.0")
    assert scene.records() == ["replaced"]
    last = scene["llm.0"].last_exit
    assert last is not None
    assert last.recovered_s == pytest.approx(0.004)


def test_filling_its_place_is_neither_a_restart_nor_a_failure() -> None:
    scene = pair()
    scene.killed("llm.0")
    refill(scene)
    scene.ready("llm.spare")
    assert scene.records() == ["ready"]
    spare = scene["llm.spare"]
    assert (spare.state, spare.restarts, spare.failures, spare.last_exit) == ("standby", 0, 0, None)


def test_the_promoted_process_is_judged_under_its_new_name() -> None:
    scene = pair()
    scene.killed("llm.0")
    heard = scene.now
    refill(scene)
    scene.ready("llm.spare")
    scene.now = heard
    scene.later(1.5).beat("llm.0")
    scene.beat("llm.spare")
    scene.later(1.0).beat("llm.spare")
    scene.wake()
    assert scene.now == heard + 3.5
    scene.killed("llm.0")
    assert scene["llm.0"].generation == 3


def test_without_one_that_is_ready_the_ordinary_rules_hold() -> None:
    scene = Scene(spec("llm.0"), standby())
    scene.ready("llm.0")
    scene.spawned("llm.spare")
    scene.killed("llm.0")
    assert scene.done() == [Spawn("llm.0", 2)]


@pytest.mark.parametrize("trouble", ["stop_seen", "loading"])
def test_one_that_is_not_well_is_not_promoted(trouble: str) -> None:
    scene = pair()
    getattr(scene, trouble)("llm.spare")
    scene.killed("llm.0")
    assert scene.done() == [Spawn("llm.0", 2)]


def test_one_that_is_overdue_is_not_promoted() -> None:
    scene = pair().later(2.0)
    scene.killed("llm.0")
    assert scene.done() == [Spawn("llm.0", 2)]


def test_it_stands_in_for_its_service_only() -> None:
    scene = Scene(spec("agent.0"), standby()).all_ready()
    scene.killed("agent.0")
    assert scene.done() == [Spawn("agent.0", 2)]


def test_it_does_not_stand_in_for_another_standby() -> None:
    scene = Scene(standby("llm.spare"), standby("llm.other", service="llm")).all_ready()
    scene.killed("llm.other")
    assert scene.done() == [Spawn("llm.other", 2)]


def test_promotion_comes_before_back_off() -> None:
    scene = Scene(spec("llm.0"), standby())
    scene.exits("llm.0")
    scene.spawned("llm.0")
    scene.ready("llm.spare")
    scene.exits("llm.0")
    assert scene["llm.0"].state == "ready"
    assert scene["llm.0"].failures == 2


def test_one_that_becomes_ready_relieves_who_waits() -> None:
    scene = Scene(spec("llm.0"), standby())
    while scene["llm.0"].state != "failed":
        scene.exits("llm.0") if scene["llm.0"].live else scene.wake()
    scene.ready("llm.spare")
    assert scene.state_of("llm.0") == "ready"
    assert scene.done()[0] == Promote("llm.0", scene["llm.0"].generation, "llm.spare")
    assert scene["llm.spare"].state == "backoff"
    scene.ready("llm.0")
    assert "replaced" in scene.records()


def test_promotion_passes_the_intensity_but_the_window_holds_for_the_refill() -> None:
    scene = pair(limits=Limits(intensity=2, period_s=20.0))
    first = scene.now + scene.state.limits.refill_s
    for _ in range(2):
        scene.killed("llm.0")
        refill(scene)
        scene.ready("llm.spare")
        scene.beat("llm.0")
    scene.killed("llm.0")
    assert scene["llm.0"].state == "ready"
    assert scene.later(scene.state.limits.refill_s).tick() == ()
    while not scene.spawns("llm.spare"):
        scene.beat("llm.0")
        scene.wake()
    assert scene.now == first + 20.0
    assert scene["llm.spare"].restarts == 0


def test_who_is_never_restarted_is_not_promoted_for_either() -> None:
    scene = pair(restart="temporary")
    scene.killed("llm.0")
    assert scene["llm.0"].state == "stopped"
    assert scene["llm.spare"].state == "standby"


def test_a_restart_by_hand_ends_in_a_promotion_that_does_not_count() -> None:
    scene = pair()
    scene.feed(RestartAsked("llm.0"))
    assert scene.done() == [Drain("llm.0", 1)]
    scene.exits("llm.0", 0)
    assert scene.done() == [PROMOTE]
    assert scene["llm.0"].restarts_at == ()


def test_one_with_another_configuration_is_not_promoted() -> None:
    scene = pair()
    scene.feed(Reconfigured((spec("llm.0", fingerprint="new"), standby())))
    scene.exits("llm.0", 0)
    assert scene.done() == [Spawn("llm.0", 2)]


def test_stopping_the_actor_promotes_nobody() -> None:
    scene = pair()
    scene.feed(StopAsked("llm.0"))
    scene.exits("llm.0", 0)
    assert scene["llm.spare"].state == "standby"
    scene.feed(StartAsked("llm.0"))
    assert scene.done() == [Spawn("llm.0", 2)]


def test_one_that_is_lost_itself_is_replaced_by_the_ordinary_rules() -> None:
    scene = pair()
    scene.killed("llm.spare")
    assert scene.done() == [Spawn("llm.spare", 2)]
    scene.ready("llm.spare")
    assert scene["llm.spare"].state == "standby"
    assert scene["llm.spare"].restarts == 1
    assert scene.records() == ["ready", "replaced"]


def test_word_of_its_old_name_is_ignored_after_the_promotion() -> None:
    scene = pair()
    scene.killed("llm.0")
    before = scene.state
    assert scene.feed(Beat("llm.spare", 1)) == ()
    assert scene.state is before
