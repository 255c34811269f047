"""Who may do what, by the kernel's word on who is at the other end of a socket.

Two roles. *use*: chats, batches, agents, tools; one's own sessions and jobs. *operate*: besides that orders to the
tree (kill, restart, reload, stop) and everybody's jobs. Root and the daemon's own user operate. Of a service that
others share, the members of its group use, and those of a second group operate; otherwise nobody else is let in.
"""

from __future__ import annotations

import grp
import os
import pwd
import time
from collections import deque
from typing import Literal

import msgspec

Role = Literal["use", "operate"]

_FRESH = 10.0  # seconds for which it is remembered which groups a user is in


class AccessRules(msgspec.Struct, frozen=True):
    """`group`: the id of the group whose members may use the daemon, None if it is nobody's but its user's.

    `operators`: the name of the group whose members operate it; there need not be one.
    """

    group: int | None = None
    operators: str = ""


class Access:
    """Judges peers. A change of a user's groups counts from its next connection on, after at most ten seconds."""

    def __init__(self, rules: AccessRules) -> None:
        self._rules = rules
        self._known: dict[tuple[int, int], tuple[float, Role | None]] = {}

    def change(self, rules: AccessRules) -> None:
        """Holds for connections made from now on."""
        self._rules = rules
        self._known.clear()

    @property
    def shared(self) -> bool:
        """Whether others than its own user may use the daemon."""
        return self._rules.group is not None

    def role(self, uid: int, gid: int) -> Role | None:
        """What this user may do, None for nothing at all."""
        if uid in (0, os.geteuid()):
            return "operate"
        if self._rules.group is None:
            return None
        now = time.monotonic()
        at, role = self._known.get((uid, gid), (-_FRESH, None))
        if now - at >= _FRESH:
            role = self._look_up(uid, gid)
            self._known[uid, gid] = now, role
        return role

    def _look_up(self, uid: int, gid: int) -> Role | None:
        groups = _groups(uid, gid)
        if _group(self._rules.operators) in groups:
            return "operate"
        return "use" if self._rules.group in groups else None


class Throttle:
    """What is worth saying of one user: so much a minute, however often it happens."""

    def __init__(self, most: int = 5, period_s: float = 60.0) -> None:
        self._most, self._period = most, period_s
        self._said: dict[int, deque[float]] = {}

    def admits(self, uid: int) -> bool:
        """Whether to say it once more."""
        now = time.monotonic()
        said = self._said.setdefault(uid, deque(maxlen=self._most))
        if len(said) == self._most and now - said[0] < self._period:
            return False
        said.append(now)
        return True


def _groups(uid: int, gid: int) -> set[int]:
    """The group of the process, and all that the user database says the user is in."""
    try:
        user = pwd.getpwuid(uid)
        return {gid, *os.getgrouplist(user.pw_name, user.pw_gid)}
    except KeyError:
        return {gid}


def _group(name: str) -> int:
    """The id of a group, one that nobody is in if there is none of the name."""
    try:
        return grp.getgrnam(name).gr_gid if name else -1
    except KeyError:
        return -1


def user_name(uid: int) -> str:
    """Who it is, for a person to read."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
