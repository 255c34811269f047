"""Folders and files: there or makeable, ours, and closed to others."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fusionctl.doctor.case import Case
from fusionctl.doctor.finding import Finding

CHECK = "paths"
_ELSEWHERE = "or use another --home"


class _Place(NamedTuple):
    """`allowed`: the mode bits that it may have. `kind`: what it must be."""

    path: Path
    kind: str
    allowed: int


def check(case: Case) -> Iterator[Finding]:
    """What is wrong with a place; one finding for all where nothing is."""
    wrong = [*_folders(case), *_files(case)]
    yield from (Finding(CHECK, False, detail, advice) for detail, advice in wrong)
    if not wrong:
        paths = case.paths
        made = "" if paths.state.exists() else ", made when the daemon starts"
        yield Finding(
            CHECK, True, f"state {paths.state}, sockets {paths.run}, configuration {paths.config_file}{made}"
        )


def _folders(case: Case) -> Iterator[tuple[str, str]]:
    closed = 0o700 if case.paths.home is not None else 0o750
    for path in (case.paths.run, case.paths.state, case.paths.logs):
        place = _Place(path, "folder", closed)
        if not os.path.lexists(path):
            yield from _unmakeable(path)
        elif fault := _fault(place, case):
            yield fault
        elif _ours(case) and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            yield f"{path} cannot be written to", f"make it writable, {_ELSEWHERE}"


def _unmakeable(path: Path) -> Iterator[tuple[str, str]]:
    """Why a folder that is not there could not be made either."""
    above = next(parent for parent in path.parents if os.path.lexists(parent))
    if not above.is_dir():
        yield f"{path} cannot be made: {above} is not a folder", f"move it away, {_ELSEWHERE}"
    elif not os.access(above, os.W_OK | os.X_OK):
        yield f"{path} cannot be made: {above} cannot be written to", f"make it writable, {_ELSEWHERE}"


def _files(case: Case) -> Iterator[tuple[str, str]]:
    paths = case.paths
    open_to = 0o600 if paths.home is not None else 0o660
    sockets = (paths.router_socket, paths.supervisor_socket, paths.actors_socket)
    places = [
        *(_Place(path, "socket", open_to) for path in sockets if case.holder is not None),
        _Place(paths.database, "file", 0o660),
        _Place(paths.events, "file", 0o660),
        _Place(paths.config_file, "file", 0o775),
        *(_Place(path, "file", 0o770) for path in _key_files(case)),
    ]
    for place in places:
        if place.path.exists() and (fault := _fault(place, case)):
            yield fault


def _key_files(case: Case) -> set[Path]:
    providers = case.config.providers.values() if case.config else ()
    return {Path(provider.api_key_file) for provider in providers if provider.api_key_file}


def _fault(place: _Place, case: Case) -> tuple[str, str] | None:
    """What is wrong with a place that is there, and what to do."""
    found = place.path.stat()
    is_kind = {"folder": stat.S_ISDIR, "socket": stat.S_ISSOCK, "file": stat.S_ISREG}[place.kind]
    quoted = shlex.quote(str(place.path))
    if not is_kind(found.st_mode):
        return f"{place.path} is no {place.kind}", f"move it away, {_ELSEWHERE}"
    if place.kind != "file" and found.st_uid != _owner(case):
        return f"{place.path} belongs to {_user(found.st_uid)}, not to {_user(_owner(case))}", (
            f"run as that user, {_ELSEWHERE}"
        )
    mode = stat.S_IMODE(found.st_mode)
    if excess := mode & 0o777 & ~place.allowed:
        what = "written" if not excess & 0o055 else "used"
        right = f"{mode & place.allowed:04o}"
        return f"{place.path} can be {what} by others (mode {mode:04o})", f"chmod {right} {quoted}"
    if place.kind == "file" and _ours(case) and not os.access(place.path, os.R_OK):
        return f"{place.path} may not be read", f"let {_user(os.geteuid())} read it"
    return None


def _owner(case: Case) -> int:
    """Whose the folders should be: the daemon's user's, ours where none runs."""
    return case.holder.uid if case.holder else os.geteuid()


def _ours(case: Case) -> bool:
    return _owner(case) == os.geteuid()


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
