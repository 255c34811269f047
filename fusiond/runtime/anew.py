"""This process beginning its program anew, under the same pid: to be rid of secrets in its environment, and to take up
new code.

Secrets go along in an unnamed file that only we can read. So do open descriptors: as long as somebody listens at the
sockets nobody is turned away, and as long as the lock is held nobody else takes our place.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from typing import NamedTuple, NoReturn

_SECRETS_FD = "FUSION_SECRETS_FD"
_KEPT_FDS = "FUSION_KEPT_FDS"
_SECRET = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)


class Brought(NamedTuple):
    """What came along: secrets by the names of their variables, descriptors by names of our own."""

    secrets: dict[str, str]
    fds: dict[str, int]


def begin(
    secrets: Mapping[str, str],
    fds: Mapping[str, int] | None = None,
    restored: Mapping[str, str] | None = None,
) -> NoReturn:
    """Does not return. `restored`: variables that we have taken out of our environment."""
    fd = os.memfd_create("keys", 0)
    os.write(fd, json.dumps(dict(secrets)).encode())
    environment = {name: value for name, value in os.environ.items() if name not in secrets}
    environment |= {_SECRETS_FD: str(fd), _KEPT_FDS: json.dumps(dict(fds or {}))} | dict(restored or {})
    for kept in (fds or {}).values():
        os.set_inheritable(kept, True)
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload must not end who cannot hear it yet
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606 — ourselves


def is_secret(name: str) -> bool:
    """Whether a variable is named like a secret."""
    return _SECRET.search(name) is not None


def will_seal(env: Mapping[str, str]) -> bool:
    """Whether there is to be a `begin` that puts secrets aside, as far as names tell."""
    return _SECRETS_FD not in env and any(map(is_secret, env))


def brought() -> Brought:
    """What came along, once; nothing of it is left in the environment or for those whom we start."""
    fd, kept = os.environ.pop(_SECRETS_FD, None), os.environ.pop(_KEPT_FDS, "{}")
    if fd is None:
        return Brought({}, {})
    with os.fdopen(int(fd), "rb") as file:
        file.seek(0)
        found = Brought(json.loads(file.read()), json.loads(kept))
    for each in found.fds.values():
        os.set_inheritable(each, False)
    return found
