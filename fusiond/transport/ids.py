"""Names of requests."""

from __future__ import annotations

import os
import time
from contextvars import ContextVar

current_request: ContextVar[bytes] = ContextVar("current_request", default=b"")
"""The request of a client that is being worked on in this context; what it leads to carries its id too."""


def new_id() -> bytes:
    """16 bytes, a UUIDv7 (RFC 9562): 48 bits of milliseconds, then random; sorts by time of making."""
    random = bytearray(os.urandom(10))
    random[0] = 0x70 | (random[0] & 0x0F)
    random[2] = 0x80 | (random[2] & 0x3F)
    return int(time.time() * 1000).to_bytes(6, "big") + bytes(random)
