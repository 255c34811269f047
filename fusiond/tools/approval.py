"""Whether a tool may be called without asking a person: by its name, or by patterns such as `mcp:time/*`."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from fusiond.protocol.tools import Approval


def approval_of(approval: Mapping[str, Approval], name: str) -> Approval:
    """The most specific of the patterns that fit decides: the name itself, else the longest; without one, "allow"."""
    if name in approval:
        return approval[name]
    fitting = [pattern for pattern in approval if fnmatchcase(name, pattern)]
    return approval[max(fitting, key=len)] if fitting else "allow"
