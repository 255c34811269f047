"""How much of what somebody else's program prints reaches a log."""

from __future__ import annotations

import time

_WINDOW = 10.0  # seconds in which ...
_LOGGED = 64 * 1024  # ... no more than so many bytes are let through


class Allowance:
    """Lets a beginning through in each window of time, and counts what it does not."""

    def __init__(self) -> None:
        self._since = 0.0
        self._logged = 0
        self._dropped = 0

    def admit(self, piece: bytes) -> tuple[bytes, int]:
        """What of `piece` may be logged, and how many bytes before it were not: 0 but at the start of a window."""
        dropped = 0
        if time.monotonic() - self._since > _WINDOW:
            dropped = self.dropped()
            self._since, self._logged = time.monotonic(), 0
        admitted = piece[: max(0, _LOGGED - self._logged)]
        self._logged += len(admitted)
        self._dropped += len(piece) - len(admitted)
        return admitted, dropped

    def dropped(self) -> int:
        """Bytes not let through since this was asked last."""
        dropped, self._dropped = self._dropped, 0
        return dropped
