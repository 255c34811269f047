"""When to ask an API again, and how long to wait before."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from fusiond.errors import Busy, Interrupted
from fusiond.providers.settings import Retries

T = TypeVar("T")

_WORDS = re.compile(
    r"(?:try again|retry|wait)\D{0,24}?((?:\d+(?:\.\d+)?\s*(?:ms|h|m|s)[a-z]*\s*)+)", re.IGNORECASE
)
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|h|m|s)", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


async def until_answered(
    ask: Callable[[], Awaitable[T]], retries: Retries, remaining: Callable[[], float]
) -> T:
    """What `ask` returns, asking again after each `Busy` it raises, `Interrupted` aside.

    The last error is raised when the attempts are used up, or the wait would be longer than `remaining()` seconds or
    than the policy allows: whoever asked is then told how long it takes.
    """
    for attempt in range(1, retries.attempts + 1):
        try:
            return await ask()
        except Interrupted:
            raise
        except Busy as error:
            pause = pause_before(attempt, error.retry_after, retries)
            if attempt == retries.attempts or pause is None or pause >= remaining():
                raise
        await asyncio.sleep(pause)
    raise AssertionError("at least one attempt")


def pause_before(attempt: int, asked_for: float | None, retries: Retries) -> float | None:
    """Seconds to wait after `attempt` (from 1) failed; None if the API asks for more than is waited.

    What the API asks for is kept to, and a little is added so that not all come back at once. Otherwise a random part
    of a pause that doubles (full jitter).
    """
    longest = min(retries.longest_pause, retries.first_pause * 2.0 ** (attempt - 1))
    jitter = random.random()  # noqa: S311 — spreads load, hides nothing
    if asked_for is None:
        return longest * jitter
    if asked_for > retries.longest_wait:
        return None
    return asked_for + min(0.25, longest) * jitter


def retry_after(
    headers: Mapping[str, str], body: Any, words: str, now: datetime | None = None
) -> float | None:
    """Seconds that a refusal asks to wait, None if it does not say.

    Read in this order: `retry-after-ms`; `Retry-After` in seconds or as a date, against the server's own clock if it
    tells it; `retry_after` or `retryDelay` in the body; "try again in 1m2s" in its `words`.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    header = headers.get("retry-after", "")
    for found in (
        _number(header),
        _until(header, headers.get("date", ""), now),
        _in_body(body),
        _in_words(words),
    ):
        if found is not None:
            return found
    return None


def _number(text: Any) -> float | None:
    try:
        number = float(text)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < float("inf") else None


def _until(date: str, server_date: str, now: datetime | None) -> float | None:
    then = _date(date)
    if then is None:
        return None
    return max(0.0, (then - (_date(server_date) or now or datetime.now(UTC))).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        found: datetime = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _in_body(body: Any) -> float | None:
    """`retry_after: 5` or `retryDelay: "5s"`, wherever in the body it stands."""
    if isinstance(body, dict):
        for key in ("retry_after", "retry_after_seconds", "retryDelay"):
            value = body.get(key)
            found = _number(value) if not isinstance(value, str) else _number(value) or _duration(value)
            if found is not None:
                return found
    nested = body.values() if isinstance(body, dict) else body if isinstance(body, list) else ()
    return next((found for value in nested if (found := _in_body(value)) is not None), None)


def _in_words(words: str) -> float | None:
    found = _WORDS.search(words)
    return _duration(found.group(1)) if found else None


def _duration(text: str) -> float | None:
    parts = _PART.findall(text)
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in parts) if parts else None
