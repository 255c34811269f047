"""A person's word on what an agent wants to do.

A run that needs it ends its request with an `ApprovalAsk`; nothing has been done then. Whoever asked shows it to a
person and sends the same request again, under the same name, with the verdict.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Verdict = Literal["once", "always", "no"]
"""This time; for the rest of the run, every call of that tool; no."""


class ApprovalAsk(msgspec.Struct, frozen=True, kw_only=True):
    """A person is to say whether this call may be made. `key`: the configuration's key that decides such calls."""

    run: str
    call: str
    agent: str
    tool: str
    input: str
    key: str
