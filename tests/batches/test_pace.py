"""How fast a provider is asked."""

from __future__ import annotations

import pytest

from fusiond.batches.pace import FIRST_PAUSE, LONGEST_PAUSE, Budget, Pace


def full(pace: Pace) -> Pace:
    while pace.room(1e9):
        pace.asked()
    return pace


def test_as_many_are_asked_at_once_as_may_be() -> None:
    pace = full(Pace(8))
    assert (pace.in_flight, pace.room(0)) == (8, 0)
    pace.gone()
    assert pace.room(0) == 1


def test_whoever_asks_to_slow_down_is_left_alone_and_then_asked_half_as_much() -> None:
    pace = Pace(16)
    pace.slow_down(now=10, asked_at=9, wait=5, reason="slow down")
    assert pace.room(14.9) == 0
    assert pace.reason == "slow down"
    assert pace.room(15) == 8


def test_refusals_of_what_was_asked_before_the_first_one_count_once() -> None:
    pace = Pace(16)
    for _ in range(5):
        pace.slow_down(now=10, asked_at=9, wait=1, reason="slow down")
    assert pace.limit == 8
    pace.slow_down(now=12, asked_at=11.5, wait=1, reason="slow down")
    assert pace.limit == 4


def test_answers_make_it_faster_again_by_one_a_round() -> None:
    pace = Pace(16)
    pace.slow_down(now=10, asked_at=9, wait=1, reason="slow down")
    pace.answered(0)
    assert pace.reason == ""
    for _ in range(8):
        pace.answered(0)
    assert pace.limit == 9
    for _ in range(1000):
        pace.answered(0)
    assert pace.limit == 16


def test_without_a_word_of_how_long_the_pause_doubles_up_to_a_bound() -> None:
    pace, now, pauses = Pace(4), 0.0, []
    for _ in range(8):
        pace.slow_down(now, now, None, "slow down")
        pauses.append(pace.closed_until - now)
        now = pace.closed_until
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE


def test_one_question_that_fails_is_at_fault_itself() -> None:
    pace = Pace(4)
    for now in range(10):
        assert not pace.failed(now, "the same", "HTTP 500")
        pace.answered(0)
    assert pace.limit == 4


def test_when_one_after_the_other_fails_the_provider_is_down_and_tried_with_one_at_a_time() -> None:
    pace = Pace(16)
    assert [pace.failed(0, question, "HTTP 500") for question in "abc"] == [False, False, True]
    assert pace.room(0) == 0
    assert pace.reason == "HTTP 500"
    assert pace.room(FIRST_PAUSE) == 1
    assert pace.failed(FIRST_PAUSE, "d", "HTTP 500")
    assert pace.closed_until == FIRST_PAUSE + 2 * FIRST_PAUSE
    for _ in range(8):
        pace.answered(0)
    assert pace.limit >= 8


def test_a_budget_is_spread_over_the_minute() -> None:
    budget = Budget(60, now=0)
    budget.spend(budget.left(0))
    assert budget.left(0) < 1
    assert budget.wait(0) == pytest.approx(1)
    assert budget.left(1) == pytest.approx(1)
    assert budget.left(1000) == pytest.approx(2)


def test_what_cost_more_than_was_thought_is_paid_back_first() -> None:
    budget = Budget(6000, now=0)
    budget.spend(1000)
    assert budget.left(1) < 0
    assert budget.wait(1) > 0
    assert budget.left(1 + budget.wait(1)) == pytest.approx(1)
