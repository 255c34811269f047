"""What isolates the tools here, and whether the shell may run at all."""

from __future__ import annotations

from collections.abc import Iterator

from fusionctl.doctor.case import Case
from fusionctl.doctor.finding import Finding

CHECK = "tools"


def check(case: Case) -> Iterator[Finding]:
    """The shell's isolation in one sentence; without any a word on it, and a fault where some is required."""
    from fusiond.tools import sandbox

    if case.config is None:
        yield Finding(CHECK, True, "not looked at: the configuration is wrong")
        return
    settings = case.config.tools
    detail = f"shell: {sandbox.describe(settings)}"
    if refused := sandbox.refusal(settings):
        yield Finding(CHECK, False, refused, "install bubblewrap, or set tools.sandbox to another value")
    elif settings.sandbox == "auto" and sandbox.available() == "none":
        yield Finding(CHECK, True, detail, "install bubblewrap")
    else:
        yield Finding(CHECK, True, detail)
