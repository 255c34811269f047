"""How fast a provider may be asked: adaptive concurrency, pauses, budgets a minute. Pure; `now` in seconds.

Concurrency follows TCP's ways: it falls to half when the provider asks to slow down, to one when it is down, and grows
again with each answer, fast up to half of what it was, then by one for each round.
"""

from __future__ import annotations

from collections.abc import Hashable

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds between two looks at a provider that is down
_UNANSWERED = 3
"""So many different questions in a row that fail are the provider's fault, fewer their own."""


class Pace:
    """One provider's, for all who ask it. `ceiling`: never more than so many at once."""

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.in_flight = 0
        self.reason = ""  # why it is slow, "" if it is not
        self.closed_until = 0.0
        self.answered_at = float("-inf")
        self._limit = float(ceiling)
        self._threshold = float(ceiling)  # up to here it grows fast
        self._pause = FIRST_PAUSE
        self._slowed_at = 0.0
        self._failing: set[Hashable] = set()  # questions that failed since the last answer

    @property
    def limit(self) -> int:
        """How many may be asked at once just now."""
        return max(1, min(self.ceiling, int(self._limit)))

    def room(self, now: float) -> int:
        """How many more may be asked at this moment."""
        return 0 if now < self.closed_until else max(0, self.limit - self.in_flight)

    def asked(self) -> None:
        self.in_flight += 1

    def gone(self) -> None:
        """A question has ended, one way or another."""
        self.in_flight -= 1

    def answered(self, now: float) -> None:
        """The provider is well; a refusal of one question is an answer too."""
        self.answered_at = now
        self._limit = min(
            self.ceiling, self._limit + (1 if self._limit < self._threshold else 1 / self._limit)
        )
        self._pause = FIRST_PAUSE
        self._failing.clear()
        self.reason = ""

    def slow_down(self, now: float, asked_at: float, wait: float | None, reason: str) -> None:
        """The provider has had enough. `wait`: seconds until it wants to hear of us again."""
        if asked_at >= self._slowed_at:  # else it was asked before it had told us so
            self._threshold = self._limit = max(1.0, self._limit / 2)
            self._slowed_at = now
        if wait is None:
            wait, self._pause = self._pause, min(LONGEST_PAUSE, 2 * self._pause)
        self._close(now + wait, reason)

    def failed(self, now: float, question: Hashable, reason: str) -> bool:
        """A question failed for what may be the provider's fault. Returns whether it is; then it is left alone for a
        while, and tried again with one question at a time."""
        self._failing.add(question)
        if len(self._failing) < _UNANSWERED:
            return False
        if now >= self.closed_until:
            if self._limit > 1:
                self._threshold, self._limit = max(1.0, self._limit / 2), 1.0
            self._close(now + self._pause, reason)
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        return True

    def _close(self, until: float, reason: str) -> None:
        self.closed_until = max(self.closed_until, until)
        self.reason = reason


class Budget:
    """So much a minute, spread over the minute: `left` grows all the time, up to what two seconds bring.

    What a question costs may be known only afterwards; then `left` falls below zero and recovers.
    """

    def __init__(self, a_minute: int, now: float) -> None:
        self.a_minute = a_minute
        self._left = self._most = max(1.0, a_minute / 30)
        self._at = now

    def left(self, now: float) -> float:
        """What may be spent now."""
        self._left = min(self._most, self._left + (now - self._at) * self.a_minute / 60)
        self._at = now
        return self._left

    def spend(self, amount: float) -> None:
        self._left -= amount

    def wait(self, now: float) -> float:
        """Seconds until one may be spent."""
        return max(0.0, (1 - self.left(now)) * 60 / self.a_minute)
