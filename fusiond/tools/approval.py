"""Whether a tool may be called without asking a person: by its name, or by patterns such as `mcp:time/*`."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from fusiond.protocol.tools import Approval, ToolInfo, ToolOutcome, approval_key


def approval_of(approval: Mapping[str, Approval], name: str) -> Approval:
    """The most specific of the patterns that fit decides: the name itself, else the longest; without one, "allow"."""
    if name in approval:
        return approval[name]
    fitting = [pattern for pattern in approval if fnmatchcase(name, pattern)]
    return approval[max(fitting, key=len)] if fitting else "allow"


def denied(info: ToolInfo) -> ToolOutcome | None:
    """Why it may not be called, whoever agrees; None if it may."""
    if info.problem:
        return ToolOutcome(kind="denied", text=f"{info.name} cannot be called: {info.problem}")
    if info.approval == "never":
        key = approval_key(info.name)
        return ToolOutcome(kind="denied", text=f'{info.name} may not be called: {key} is "never"')
    return None


def asked(info: ToolInfo) -> ToolOutcome:
    """A person must agree first."""
    text = f'a person must agree to this call: {approval_key(info.name)} is "ask"'
    return ToolOutcome(kind="approval", text=text)
