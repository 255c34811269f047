"""The daemon: whether it answers, how its actors are, whether it is of our version, and what configured it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fusionctl import render
from fusionctl.doctor.case import Case
from fusionctl.doctor.finding import Finding
from fusiond import __version__
from fusiond.errors import ProtocolMismatch
from fusiond.protocol.control import SET, ActorHealth, told

CHECK = "daemon"
_VERSION = "version"
_ENVIRONMENT = "environment"


def check(case: Case) -> Iterator[Finding]:
    """Whether it answers, and every actor that does not serve."""
    if case.health is not None:
        broken = [actor for actor in case.health.actors if actor.state in ("backoff", "failed")]
        yield from (
            Finding(CHECK, False, _why(actor), f"see: {case.command(f'logs {actor.name}')}")
            for actor in broken
        )
        if not broken:
            up = render.span(case.health.supervisor.uptime_s)
            count = render.count(len(case.health.actors), "process", "processes")
            yield Finding(
                CHECK, True, f"pid {case.health.supervisor.pid}, up {up}, {count}, {case.health.status}"
            )
    elif case.silence is not None:
        yield Finding(CHECK, False, case.silence.message, case.silence.advice or case.again)
    elif case.holder is not None:
        yield Finding(CHECK, False, f"pid {case.holder.pid} does not say how it is", case.again)
    elif lost := _lost(case):
        detail = f"pid {lost} runs for {case.paths.home}, but its lock and its sockets are gone from {case.paths.run}"
        yield Finding(CHECK, False, detail, f"end it before another one starts: kill {lost}")
    else:
        yield Finding(CHECK, True, "none is running; a command that needs one starts it")


def _lost(case: Case) -> int | None:
    """The pid of a daemon whose folder of sockets somebody has cleared away: nobody can reach it any more."""
    title = f"fusiond: supervisor {case.paths.home}".encode()
    for process in Path("/proc").iterdir() if case.paths.home is not None else ():
        with suppress(OSError):
            if process.name.isdecimal() and (process / "cmdline").read_bytes().rstrip(b"\0 ") == title:
                return int(process.name)
    return None


def _why(actor: ActorHealth) -> str:
    cause = f": {render.cause(actor.last_exit)}" if actor.last_exit else ""
    return f"{actor.name} is in {actor.state}{cause}"


def check_version(case: Case) -> Iterator[Finding]:
    """Client and daemon should be one version."""
    ours = f"fusionctl {__version__}"
    if isinstance(case.silence, ProtocolMismatch):
        yield Finding(
            _VERSION, False, f"{ours}, and a daemon of another version: {case.silence.message}", case.again
        )
    elif case.health is None:
        yield Finding(_VERSION, True, ours)
    elif case.health.version != __version__:
        yield Finding(_VERSION, False, f"{ours}, but fusiond {case.health.version} runs", case.again)
    elif case.about is None and case.silence is None:
        yield Finding(
            _VERSION, False, f"{ours}, but an older fusiond runs: it knows fewer questions", case.again
        )
    else:
        python = f" on Python {case.about.python}" if case.about else ""
        yield Finding(_VERSION, True, f"{ours}, fusiond {case.health.version}{python}")


def check_environment(case: Case) -> Iterator[Finding]:
    """A daemon keeps the environment in which it was started; another one here does nothing to it."""
    if case.about is None:
        which = "the daemon does not say what configured it" if case.holder else "no daemon has one yet"
        yield Finding(_ENVIRONMENT, True, which)
        return
    theirs = case.about.environment
    ours = told(case.env, theirs.keys() - told({}).keys())
    different = [name for name in theirs if theirs[name] != ours[name]]
    yield from (_difference(name, theirs[name], ours[name], case) for name in different)
    if not different:
        yield Finding(_ENVIRONMENT, True, "the daemon was started with the variables that are set here")


def _difference(name: str, theirs: str, ours: str, case: Case) -> Finding:
    """One variable. What is set here in vain is a fault; what only the daemon has is worth knowing."""
    how = f"with {name}" if theirs else f"without {name}"
    how += "" if theirs in ("", SET) else f"={theirs}"
    here = f"{ours} here" if ours not in ("", SET) else f"{'set' if ours else 'not set'} here"
    detail = f"the running daemon was started {how}, which is {here}"
    if case.service:
        return Finding(_ENVIRONMENT, True, detail, "systemd starts it: its variables stand in its unit")
    if not ours:
        return Finding(
            _ENVIRONMENT, True, detail, f"it keeps its own; to start it anew as here: {case.again}"
        )
    return Finding(_ENVIRONMENT, False, detail, f"restart it to use yours: {case.again}")
