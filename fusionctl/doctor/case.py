"""What is known before the first look: where things live, the daemon and what it says, the configuration."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from fusionctl import autostart, control, holder, homes
from fusionctl.holder import Holder
from fusiond import config as configuration
from fusiond.config import Config
from fusiond.errors import BadRequest, Denied, FusionError
from fusiond.paths import Paths
from fusiond.protocol.control import About, Health

T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """`env`: what a daemon started from here would get. `holder`: the daemon's process, None if there is none.

    `health` and `about` are None where it does not say; `silence` is then why. `config` is None where a daemon
    started from here would not take it. `home`: as it was given with `--home`.
    """

    paths: Paths
    env: Mapping[str, str]
    holder: Holder | None = None
    health: Health | None = None
    about: About | None = None
    silence: FusionError | None = None
    config: Config | None = None
    home: str | None = None

    def command(self, rest: str) -> str:
        """`fusionctl REST` as the person has to type it for this daemon."""
        where = "" if self.home is None else f"--home {shlex.quote(self.home)} "
        return f"fusionctl {where}{rest}"

    @property
    def foreign(self) -> bool:
        """The daemon is another user's: much of it is not for us to see."""
        return self.holder is not None and not self.holder.ours

    @property
    def service(self) -> bool:
        """systemd runs it."""
        return self.holder is not None and self.holder.service

    @property
    def again(self) -> str:
        """How to get another daemon in its place: a `restart` replaces the actors, not the supervisor."""
        if self.service:
            return "restart its unit with systemctl"
        return f"{self.command('stop')} && {self.command('start')}"


def take(home: str | None) -> Case:
    """The case of the daemon that a command would speak to; never starts, ends or changes anything.

    Raises what `fusiond.paths.resolve` raises.
    """
    env = autostart.environment()
    found = homes.candidates(home)
    silence = None
    for paths in found:
        case = Case(paths, env, config=_config(paths, env), home=home)
        try:
            process = holder.find(paths)
        except Denied as error:
            silence = error
            continue
        if process is not None:
            return _ask(replace(case, holder=process))
    return Case(found[0], env, silence=silence, config=_config(found[0], env), home=home)


def _config(paths: Paths, env: Mapping[str, str]) -> Config | None:
    try:
        return configuration.load(paths.config_file, env)
    except FusionError:
        return None  # the check of the configuration says why


def _ask(case: Case) -> Case:
    """The case with what the daemon says of itself."""
    health = about = silence = None
    try:
        health = _question(case, "health", Health)
        about = _question(case, "about", About)
    except BadRequest:
        pass  # a daemon from before this question
    except FusionError as error:
        silence = error
    return replace(case, health=health, about=about, silence=silence)


def _question(case: Case, verb: str, reply: type[T]) -> T:
    assert case.holder is not None
    end = case.holder.pidfd()
    if end is None:
        raise FusionError(f"the daemon (pid {case.holder.pid}) has just ended", advice="look again")
    try:
        answer = control.ask(case.paths.supervisor_socket, verb, timeout=autostart.SILENCE, end=end)
    finally:
        os.close(end)
    if answer is None:
        raise FusionError(autostart.hung(case.holder), advice=f"end it with: {case.command('stop')}")
    return msgspec.msgpack.decode(answer, type=reply)
