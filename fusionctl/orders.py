"""Orders to the supervisor from the command line: one question, one answer, no event loop."""

from __future__ import annotations

import os
from typing import TypeVar

import msgspec

from fusionctl import autostart, control
from fusionctl.autostart import Daemon
from fusionctl.invocation import Invocation, notice
from fusiond.errors import Unreachable

T = TypeVar("T")


def reach(invocation: Invocation, *, start: bool) -> Daemon:
    """The daemon to give orders to; with `start` one is started where none runs and the person allows it."""
    return autostart.reach(invocation.home, autostart=invocation.autostart and start, notice=notice)


def give(daemon: Daemon, verb: str, body: bytes, reply: type[T]) -> T:
    """The supervisor's answer, however long it takes. Raises `Unreachable` if it ends before."""
    end = daemon.holder.pidfd()
    try:
        answer = None
        if end is not None:
            answer = control.ask(daemon.paths.supervisor_socket, verb, body, end=end)
        if answer is None:
            raise Unreachable(
                f"the daemon (pid {daemon.holder.pid}) ended, or began anew, before it answered '{verb}'"
            )
        return msgspec.msgpack.decode(answer, type=reply)
    finally:
        if end is not None:
            os.close(end)


def actor_names(home: str | None) -> list[str]:
    """The actors of a running daemon, for completion; nothing where none answers at once."""
    try:
        daemon = autostart.reach(home, autostart=False, notice=lambda _: None)
    except Exception:  # the Tab key never reports an error
        return []
    return [actor.name for actor in daemon.health.actors]
