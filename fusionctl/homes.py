"""Which daemons a command may speak to, in which order."""

from __future__ import annotations

import os
from contextlib import suppress

from fusiond.errors import Denied
from fusiond.paths import Paths, resolve, service_paths


def candidates(home: str | None) -> list[Paths]:
    """The homes to look at.

    One that is named is the only one; else the user's own comes first, then the service's.
    """
    own = resolve(home)
    service = service_paths()
    if own.home is not None or own.run == service.run or not service.run.is_dir():
        return [own]
    return [own, service]


def spoken_to(home: str | None) -> Paths:
    """The home of the daemon that a command would speak to; the first of all where none runs."""
    from fusionctl import holder

    found = candidates(home)
    for paths in found:
        with suppress(Denied):
            if holder.find(paths) is not None:
                return paths
    return found[0]


def recorded(home: str | None) -> Paths:
    """The home whose files tell what happened: the first that has any.

    For what must work while nothing runs.
    """
    found = candidates(home)
    return next((paths for paths in found if os.access(paths.logs, os.R_OK)), found[0])


def name(paths: Paths) -> str:
    """How a message calls this home."""
    return str(paths.home or paths.state)
