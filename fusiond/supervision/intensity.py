"""The restart window and the back-off: pure functions that are handed the time and the dice.

A life that had been ready and then ended is replaced at once, as long as fewer than `intensity` automatic
spawns lie in the last `period_s` (OTP's intensity and period). A life that never became ready, or one past
the intensity, is a *failure*. The first failure in a row is made good at once too, if the window permits;
from the second on the wait grows exponentially, with full jitter (a draw between nothing and the whole, so
that actors that fell together do not rise together); past `max_failures` there is only a probe every
`probe_s`, for ever.

Whatever the rule, nothing is spawned by itself while the window is full. An intensity below 1 counts as 1:
nothing is given up for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from fusiond.supervision.spec import Limits

Waiting = Literal["backoff", "failed"]

_LARGEST_EXPONENT = 60  # beyond it a float's range, not the cap, would be the limit


class Verdict(msgspec.Struct, frozen=True):
    """What follows a lost life, and when. `failures`: the count from now on."""

    state: Literal["starting"] | Waiting
    failures: int
    at: float


def within(times: Sequence[float], limits: Limits, now: float) -> tuple[float, ...]:
    """Those of `times` that still count."""
    return tuple(t for t in times if t + limits.period_s > now)


def opens_at(times: Sequence[float], limits: Limits, now: float) -> float:
    """The earliest time, not before `now`, at which the window has room for one more. `times` ascend."""
    counted = within(times, limits, now)
    room = max(1, limits.intensity)
    return now if len(counted) < room else counted[-room] + limits.period_s


def delay(failures: int, limits: Limits, jitter: float) -> float:
    """Seconds to wait after so many failures in a row. `jitter`: a draw from [0, 1]."""
    if failures < 2:
        return 0.0
    exponent = min(failures - 2, _LARGEST_EXPONENT)
    return jitter * min(limits.backoff_cap_s, limits.backoff_base_s * 2.0**exponent)


def decide(
    *, had_been_ready: bool, failures: int, times: Sequence[float], limits: Limits, now: float, jitter: float
) -> Verdict:
    """What follows a lost life that is to be replaced."""
    opens = opens_at(times, limits, now)
    if had_been_ready and opens <= now:
        return Verdict("starting", failures, now)
    failures += 1
    if failures > limits.max_failures:
        return Verdict("failed", failures, max(now + limits.probe_s, opens))
    if failures == 1 and opens <= now:
        return Verdict("starting", failures, now)
    return Verdict("backoff", failures, max(now + delay(failures, limits, jitter), opens))
