"""The restart window and the back-off: alone, and as the policy obeys them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiond.supervision.events import RestartAsked, SpawnFailed
from fusiond.supervision.intensity import Verdict, decide, delay, opens_at, within
from fusiond.supervision.spec import Limits

from .scene import Scene, spec

LIMITS = Limits()
TIMES = st.lists(st.floats(0, 100), max_size=40).map(lambda times: tuple(sorted(times)))


def verdict(ready: bool, failures: int, times: tuple[float, ...] = (), jitter: float = 1.0) -> Verdict:
    return decide(
        had_been_ready=ready, failures=failures, times=times, limits=LIMITS, now=100.0, jitter=jitter
    )


# --- pure -----------------------------------------------------------------------------------------


def test_a_time_counts_for_just_one_period() -> None:
    assert within((97.9, 98.0, 98.1, 100.0), LIMITS, 100.0) == (98.1, 100.0)


def test_the_window_opens_when_the_oldest_that_matters_is_past() -> None:
    limits = Limits(intensity=3, period_s=2.0)
    assert opens_at((99.0, 99.5), limits, 100.0) == 100.0
    assert opens_at((99.0, 99.5, 99.9), limits, 100.0) == 101.0
    assert opens_at((98.5, 99.0, 99.5, 99.9), limits, 100.0) == 101.0


@given(TIMES, st.integers(0, 30), st.floats(0.01, 10))
def test_when_the_window_opens_there_is_room(times: tuple[float, ...], intensity: int, period: float) -> None:
    limits = Limits(intensity=intensity, period_s=period)
    at = opens_at(times, limits, 100.0)
    assert at >= 100.0
    assert len(within(times, limits, at)) < max(1, intensity)


def test_an_intensity_of_nothing_still_gives_nobody_up() -> None:
    limits = Limits(intensity=0, period_s=2.0)
    assert opens_at((), limits, 100.0) == 100.0
    assert opens_at((99.0,), limits, 100.0) == 101.0


def test_the_delay_doubles_up_to_the_cap() -> None:
    assert [delay(n, LIMITS, 1.0) for n in (0, 1, 2, 3, 4, 8, 9, 10_000)] == [
        0.0, 0.0, 0.1, 0.2, 0.4, 6.4, 10.0, 10.0,
    ]  # fmt: skip


@given(st.integers(0, 100), st.floats(0, 1))
def test_jitter_is_full(failures: int, jitter: float) -> None:
    assert delay(failures, LIMITS, jitter) == pytest.approx(jitter * delay(failures, LIMITS, 1.0))


@pytest.mark.parametrize(
    ("ready", "failures", "expected"),
    [
        (True, 0, Verdict("starting", 0, 100.0)),
        (True, 4, Verdict("starting", 4, 100.0)),
        (False, 0, Verdict("starting", 1, 100.0)),
        (False, 1, Verdict("backoff", 2, 100.1)),
        (False, 2, Verdict("backoff", 3, 100.2)),
        (False, 4, Verdict("backoff", 5, 100.8)),
        (False, 5, Verdict("failed", 6, 115.0)),
        (False, 6, Verdict("failed", 7, 115.0)),
    ],
)
def test_what_follows_with_an_open_window(ready: bool, failures: int, expected: Verdict) -> None:
    assert verdict(ready, failures) == expected


@pytest.mark.parametrize(
    ("ready", "failures", "expected"),
    [
        (True, 0, Verdict("backoff", 1, 101.0)),
        (False, 0, Verdict("backoff", 1, 101.0)),
        (False, 1, Verdict("backoff", 2, 101.0)),
        (True, 5, Verdict("failed", 6, 115.0)),
    ],
)
def test_what_follows_with_a_full_window(ready: bool, failures: int, expected: Verdict) -> None:
    assert verdict(ready, failures, (99.0,) * 20) == expected


# --- obeyed ---------------------------------------------------------------------------------------


def test_a_hundred_kills_with_100_ms_between_are_each_made_good_at_once() -> None:
    scene = Scene(spec("llm.0"))
    for _ in range(100):
        scene.later(0.005).ready("llm.0")
        scene.later(0.1).killed("llm.0")
        assert scene.spawns("llm.0")
    assert scene["llm.0"].restarts == 100
    assert scene["llm.0"].failures == 0


def test_past_the_intensity_it_waits_for_the_window() -> None:
    scene = Scene(spec("llm.0"))
    start = scene.now
    for _ in range(20):
        scene.ready("llm.0")
        scene.killed("llm.0")
        assert scene.spawns("llm.0")
    scene.ready("llm.0")
    scene.later(0.5).killed("llm.0")
    assert scene["llm.0"].state == "backoff"
    assert scene["llm.0"].failures == 1
    scene.wake()
    assert scene.now == start + 2.0
    assert scene.spawns("llm.0")


def test_starts_that_fail_wait_longer_and_longer_then_fail_then_are_probed() -> None:
    scene = Scene(spec("llm.0"))
    waits = []
    states = []
    for _ in range(8):
        ended = scene.now
        scene.exits("llm.0")
        states.append(scene["llm.0"].state)
        if scene["llm.0"].state != "starting":
            waits.append(round((scene["llm.0"].wake_at or 0) - ended, 6))
            scene.wake()
        assert scene["llm.0"].state == "starting"
    assert states == ["starting"] + ["backoff"] * 4 + ["failed"] * 3
    assert waits == [0.1, 0.2, 0.4, 0.8, 15.0, 15.0, 15.0]


def test_backing_off_and_failing_are_recorded_with_the_wait() -> None:
    scene = Scene(spec("llm.0"), limits=Limits(max_failures=2))
    scene.exits("llm.0")
    scene.exits("llm.0")
    assert scene.record("backed_off").ms == pytest.approx(100.0)
    assert scene.record("backed_off").detail == "2 failed lives in a row"
    scene.wake()
    scene.exits("llm.0")
    assert scene.record("failed").ms == pytest.approx(15_000.0)


def test_a_spawn_that_fails_counts_as_a_failed_life() -> None:
    scene = Scene(spec("llm.0"))
    scene.feed(SpawnFailed("llm.0", 1, "no memory"))
    assert scene.spawns("llm.0")
    scene.feed(SpawnFailed("llm.0", 2, "no memory"))
    assert scene["llm.0"].state == "backoff"
    assert scene["llm.0"].failures == 2


def test_a_probe_that_becomes_ready_heals() -> None:
    scene = Scene(spec("llm.0"), limits=Limits(max_failures=0))
    scene.exits("llm.0")
    assert scene["llm.0"].state == "failed"
    scene.wake()
    scene.ready("llm.0")
    assert scene.state_of("llm.0") == "ready"
    assert "replaced" in scene.records()
    scene.killed("llm.0")
    assert scene.spawns("llm.0")


def test_failures_are_forgotten_after_a_minute_of_being_ready() -> None:
    scene = Scene(spec("llm.0"))
    scene.exits("llm.0")
    scene.ready("llm.0")
    became_ready = scene.now
    for _ in range(59):
        scene.later(1.0).beat("llm.0")
        scene.tick()
    assert scene["llm.0"].failures == 1
    scene.wake()
    assert scene.now == became_ready + 60.0
    assert scene["llm.0"].failures == 0


def test_failures_are_forgotten_at_the_next_exit_even_if_no_tick_came() -> None:
    scene = Scene(spec("llm.0"))
    scene.exits("llm.0")
    scene.ready("llm.0")
    for _ in range(60):
        scene.later(1.0).beat("llm.0")
    assert scene["llm.0"].failures == 1
    scene.killed("llm.0")
    assert scene["llm.0"].failures == 0


def test_failures_outlast_a_ready_life_that_was_short() -> None:
    scene = Scene(spec("llm.0"))
    scene.exits("llm.0")
    scene.ready("llm.0")
    scene.later(1.0).killed("llm.0")
    assert scene.spawns("llm.0")
    scene.exits("llm.0")
    assert scene["llm.0"].state == "backoff"


def test_a_restart_by_hand_passes_every_limit_and_does_not_count() -> None:
    scene = Scene(spec("llm.0"), limits=Limits(intensity=1, period_s=1000.0))
    scene.ready("llm.0")
    scene.killed("llm.0")
    scene.ready("llm.0")
    counted = scene["llm.0"].restarts_at
    for _ in range(5):
        scene.feed(RestartAsked("llm.0"))
        scene.exits("llm.0", 0)
        assert scene.spawns("llm.0")
        scene.ready("llm.0")
    assert scene["llm.0"].restarts_at == counted
    assert scene["llm.0"].restarts == 6


@pytest.mark.parametrize("failures", [2, 6])
def test_a_restart_by_hand_ends_the_waiting_and_forgives(failures: int) -> None:
    scene = Scene(spec("llm.0"))
    while scene["llm.0"].failures < failures:
        scene.exits("llm.0") if scene["llm.0"].live else scene.wake()
    assert scene["llm.0"].waiting
    scene.feed(RestartAsked("llm.0"))
    assert scene.spawns("llm.0")
    assert scene["llm.0"].failures == 0
