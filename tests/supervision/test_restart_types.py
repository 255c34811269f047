"""Restart type by end of the process, named as in OTP's supervisor_SUITE."""

from __future__ import annotations

import pytest

from fusiond.supervision.events import SpawnFailed
from fusiond.supervision.spec import Restart

from .scene import Scene, spec


def one(restart: Restart) -> Scene:
    return Scene(spec("llm.0", restart=restart)).all_ready()


def test_permanent_normal() -> None:
    scene = one("permanent")
    scene.exits("llm.0", 0)
    assert scene.spawns("llm.0")


def test_permanent_abnormal() -> None:
    scene = one("permanent")
    scene.exits("llm.0", 1)
    assert scene.spawns("llm.0")


def test_permanent_killed() -> None:
    scene = one("permanent")
    scene.killed("llm.0")
    assert scene.spawns("llm.0")


def test_transient_normal() -> None:
    scene = one("transient")
    scene.exits("llm.0", 0)
    assert scene["llm.0"].state == "stopped"
    assert scene.records() == ["exited", "stopped"]


def test_transient_abnormal() -> None:
    scene = one("transient")
    scene.exits("llm.0", 1)
    assert scene.spawns("llm.0")


def test_transient_killed() -> None:
    scene = one("transient")
    scene.killed("llm.0", "SIGTERM")
    assert scene.spawns("llm.0")


def test_temporary_normal() -> None:
    scene = one("temporary")
    scene.exits("llm.0", 0)
    assert scene["llm.0"].state == "stopped"


def test_temporary_abnormal() -> None:
    scene = one("temporary")
    scene.exits("llm.0", 1)
    assert scene["llm.0"].state == "stopped"
    assert scene["llm.0"].degraded


def test_temporary_killed() -> None:
    scene = one("temporary")
    scene.killed("llm.0")
    assert scene["llm.0"].state == "stopped"
    assert scene.done() == []


@pytest.mark.parametrize(
    ("restart", "state"), [("permanent", "starting"), ("transient", "starting"), ("temporary", "stopped")]
)
def test_what_cannot_be_spawned_ended_abnormally(restart: Restart, state: str) -> None:
    scene = Scene(spec("llm.0", restart=restart))
    scene.feed(SpawnFailed("llm.0", 1, "no memory"))
    assert scene["llm.0"].state == state
    last = scene["llm.0"].last_exit
    assert last is not None
    assert (last.reason, last.detail) == ("exit", "could not be started: no memory")


@pytest.mark.parametrize(
    ("restart", "state"), [("permanent", "starting"), ("transient", "starting"), ("temporary", "stopped")]
)
def test_what_had_to_be_killed_ended_abnormally_even_if_it_exits_with_0(restart: Restart, state: str) -> None:
    scene = one(restart)
    scene.wake()
    scene.exits("llm.0", 0)
    assert scene["llm.0"].state == state


def test_a_replacement_has_the_next_generation_and_counts_as_a_restart() -> None:
    scene = one("permanent")
    assert (scene["llm.0"].generation, scene["llm.0"].restarts) == (1, 0)
    scene.killed("llm.0")
    assert (scene["llm.0"].generation, scene["llm.0"].restarts) == (2, 1)
    assert scene["llm.0"].pid is None


def test_the_last_exit_says_how_and_how_soon_it_was_made_good() -> None:
    scene = one("permanent").later(10.0)
    scene.killed("llm.0")
    exit_time = scene.now
    scene.later(0.004).spawned("llm.0")
    assert scene.record("started").ms == pytest.approx(4.0)
    scene.later(0.003).ready("llm.0")
    last = scene["llm.0"].last_exit
    assert last is not None
    assert (last.reason, last.detail, last.at) == ("signal", "SIGKILL", exit_time)
    assert last.recovered_s == pytest.approx(0.007)
    assert scene.records() == ["ready", "replaced"]
    assert scene.record("replaced").ms == pytest.approx(7.0)
    assert scene.record("replaced").detail == "signal: SIGKILL"


def test_the_loss_lasts_until_somebody_is_ready_however_many_lives_it_takes() -> None:
    scene = one("permanent").later(10.0)
    scene.killed("llm.0")
    for _ in range(3):
        scene.later(1.0).exits("llm.0")
        if scene["llm.0"].state == "backoff":
            scene.wake()
    lost_for = scene.now - scene["llm.0"].since
    scene.ready("llm.0")
    last = scene["llm.0"].last_exit
    assert last is not None
    assert last.recovered_s is not None
    assert last.recovered_s > 3.0 > lost_for


def test_last_words_stand_with_an_exit_but_leave_a_signal_its_plain_name() -> None:
    scene = one("permanent")
    scene.exits("llm.0", 1, "the model file is missing")
    last = scene["llm.0"].last_exit
    assert last is not None
    assert last.detail == "status 1: the model file is missing"
    assert scene.record("exited").detail == "status 1: the model file is missing"


def test_the_first_start_is_recorded_as_ready_and_replaces_nobody() -> None:
    scene = Scene(spec("llm.0"))
    scene.later(0.5).spawned("llm.0")
    scene.later(0.5).ready("llm.0")
    assert scene.records() == ["ready"]
    assert scene.record("ready").ms == pytest.approx(1000.0)


def test_boot_starts_all_in_the_order_of_the_specs() -> None:
    scene = Scene(spec("forkserver"), spec("router"), spec("llm.0"))
    assert [(e.__class__.__name__, getattr(e, "name", "")) for e in scene.effects] == [
        ("Spawn", "forkserver"),
        ("Spawn", "router"),
        ("Spawn", "llm.0"),
    ]
