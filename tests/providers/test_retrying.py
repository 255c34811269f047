"""When an API is asked again, and how long is waited before."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fusiond.errors import BadRequest, Interrupted, ProviderDown, RateLimited
from fusiond.providers.retrying import pause_before, retry_after, until_answered
from fusiond.providers.settings import Retries

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
SOON = Retries(attempts=3, first_pause=0.001, longest_pause=0.001)


@pytest.mark.parametrize(
    ("headers", "body", "words", "seconds"),
    [
        ({"retry-after": "7"}, None, "", 7),
        ({"retry-after": "0.5"}, None, "", 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, None, "", 0.25),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:30 GMT"}, None, "", 30),
        (
            {"retry-after": "Sun, 22 Nov 2026 12:00:30 GMT", "date": "Sun, 22 Nov 2026 12:00:20 GMT"},
            None,
            "",
            10,
        ),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, None, "", 0),
        ({"retry-after": "soon"}, None, "", None),
        ({"retry-after": "-3"}, None, "", None),
        ({"retry-after": "nan"}, None, "", None),
        ({}, {"error": {"retry_after": 4}}, "", 4),
        ({}, [{"error": {"details": [{"@type": "RetryInfo", "retryDelay": "34.5s"}]}}], "", 34.5),
        ({}, None, "Rate limit reached. Please try again in 20ms.", 0.02),
        ({}, None, "Rate limit reached. Please try again in 1m2.5s. Visit 3s.example", 62.5),
        ({}, None, "Please retry after 12 seconds.", 12),
        ({}, None, "Limit 3, used 3 requests", None),
        ({}, None, "", None),
    ],
)
def test_every_way_of_asking_to_wait_is_read(
    headers: dict[str, str], body: Any, words: str, seconds: float | None
) -> None:
    found = retry_after(headers, body, words, NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_pauses_double_up_to_the_longest_and_are_random() -> None:
    retries = Retries(first_pause=1, longest_pause=4)
    longest = [max(pause_before(n, None, retries) or 0 for _ in range(500)) for n in (1, 2, 3, 4)]
    assert [pytest.approx(most, rel=0.1) for most in (1, 2, 4, 4)] == longest
    assert min(pause_before(1, None, retries) or 0 for _ in range(500)) < 0.1


def test_what_the_api_asks_for_is_waited_and_hardly_more() -> None:
    pause = pause_before(1, 5.0, Retries())
    assert pause is not None
    assert 5.0 <= pause <= 5.25


def test_a_pause_past_the_longest_wait_is_not_waited() -> None:
    assert pause_before(1, 31.0, Retries(longest_wait=30)) is None


class Asked:
    """Fails with each of `errors`, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.times = 0

    async def __call__(self) -> str:
        self.times += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


async def test_what_may_pass_is_asked_again() -> None:
    ask = Asked(ProviderDown("down"), RateLimited("slow", retry_after=0))
    assert await until_answered(ask, SOON, lambda: 9) == "answer"
    assert ask.times == 3


async def test_the_last_error_is_raised_when_the_attempts_are_used_up() -> None:
    ask = Asked(*(ProviderDown(str(n)) for n in range(9)))
    with pytest.raises(ProviderDown, match="2"):
        await until_answered(ask, SOON, lambda: 9)
    assert ask.times == 3


@pytest.mark.parametrize(
    "error", [BadRequest("no"), Interrupted("cut"), RateLimited("slow", retry_after=3600)]
)
async def test_what_asking_again_does_not_mend_is_raised_at_once(error: Exception) -> None:
    ask = Asked(error)
    with pytest.raises(type(error)):
        await until_answered(ask, SOON, lambda: 9)
    assert ask.times == 1


async def test_a_wait_longer_than_the_time_left_is_not_begun() -> None:
    ask = Asked(RateLimited("slow", retry_after=5))
    with pytest.raises(RateLimited):
        await until_answered(ask, SOON, lambda: 4.9)
    assert ask.times == 1
