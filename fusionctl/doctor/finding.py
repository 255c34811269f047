"""What a check says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from fusionctl.render import Paint, plain
from fusionctl.text import safe


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at. `advice`: what to do; where there is some although it is `ok`, it is worth reading."""

    check: str
    ok: bool
    detail: str
    advice: str = ""


def lines(findings: Sequence[Finding], paint: Paint = plain) -> Iterator[str]:
    """A line for each finding."""
    width = max((len(finding.check) for finding in findings), default=0)
    for finding in findings:
        sign, style = _sign(finding)
        advice = f" — {finding.advice}" if finding.advice else ""
        text = safe(" ".join(f"{finding.detail}{advice}".split()))
        yield f"{sign} {finding.check:<{width}}  {paint(text, style) if style else text}"


def _sign(finding: Finding) -> tuple[str, str]:
    if not finding.ok:
        return "❌", "bad"
    return ("⚠️ ", "warn") if finding.advice else ("✅", "")
