"""All checks, in the order in which one thing rests on the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from fusionctl.doctor import daemon, database, limits, model, places, provider, settings, sockets, tools
from fusionctl.doctor.case import Case, take
from fusionctl.doctor.finding import Finding
from fusiond.errors import Denied, FusionError

Check = Callable[[Case], Iterator[Finding]]

CHECKS: Mapping[str, Check] = {
    "paths": places.check,
    "daemon": daemon.check,
    "sockets": sockets.check,
    "version": daemon.check_version,
    "environment": daemon.check_environment,
    "configuration": settings.check,
    "model": model.check,
    "provider": provider.check,
    "database": database.check,
    "tools": tools.check,
    "limits": limits.check,
}
"""Every check by the subject that its findings name."""


def examine(home: str | None) -> list[Finding]:
    """What there is to say about the daemon of `home`, or the one that a command would speak to."""
    try:
        case = take(home)
    except FusionError as error:
        return [Finding("paths", False, error.message, error.advice or "use another --home")]
    return [finding for name, check in CHECKS.items() for finding in findings(name, check, case)]


def findings(name: str, check: Check, case: Case) -> list[Finding]:
    """What `check` says; what it raises is the last of it."""
    found = []
    try:
        for finding in check(case):
            found.append(finding)  # noqa: PERF402 — what came before an error counts
    except Exception as error:  # a check that fails is no reason to leave the others out
        found.append(_failed(name, error, case))
    return found


def _failed(name: str, error: Exception, case: Case) -> Finding:
    if isinstance(error, Denied | PermissionError) and case.foreign:
        return Finding(name, True, "not looked at: it is the daemon's user's, and closed to you")
    if isinstance(error, FusionError):
        return Finding(name, False, error.message, error.advice or "correct that and look again")
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return Finding(name, False, f"{where}{error.strerror or error}", "the system refused this look")
    words = f"this check failed: {type(error).__name__}"
    return Finding(name, False, words, "it is a defect of Fusion, please report it")
