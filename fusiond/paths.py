"""Where things live: configuration, state, models, sockets.

`--home DIR` or `FUSION_HOME` puts everything below DIR. Without it the folders are systemd's
(`RUNTIME_DIRECTORY` and its sisters) where it gives some, else the user's own as platformdirs names them.
Client and daemon come to the same paths on their own, so nothing here depends on what is running.
Cheap to import: the command line does so each time.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fusiond.errors import ConfigError, Denied, UsageError

TREE = "FUSION_TREE"
"""In the environment of what actors start: the folder of the sockets of its daemon."""

GROUP_ADVICE = "join its group (fusion), or use a home of your own: --home DIR"
"""For whoever is not let in."""

JOURNAL_MARKER = "journal"
"""In the folder of the logs of a daemon that is a service: the name of its unit, behind `--user` if it is a user's."""

SOCKET_PATH_MAX = 107
"""Bytes that the kernel takes as the path of a Unix socket."""

_TEMPORARY = Path("/tmp")  # noqa: S108  (not TMPDIR: it differs between a login and a cron job, the paths may not)
_RUN_USER = Path("/run/user")
_ELSEWHERE = "use another --home or FUSION_HOME"
_SHORTER = "use a short --home"


@dataclass(frozen=True)
class Paths:
    """Every file and folder of one daemon. `home`: the folder that holds them all, None without one."""

    home: Path | None
    config_file: Path
    state: Path
    models: Path
    run: Path
    shared: bool = False
    """The system's service: members of its group are let in."""

    @property
    def router_socket(self) -> Path:
        return self.run / "router.sock"

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def actors_socket(self) -> Path:
        return self.run / "actors.sock"

    @property
    def lock(self) -> Path:
        return self.run / "fusiond.lock"

    @property
    def events(self) -> Path:
        return self.state / "events.jsonl"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def database(self) -> Path:
        return self.state / "fusion.db"

    @property
    def daemon_log(self) -> Path:
        return self.logs / "fusiond.log"


def resolve(home: str | os.PathLike[str] | None = None, env: Mapping[str, str] = os.environ) -> Paths:
    """The paths that `home` (what `--home` says), else the environment, asks for. Creates nothing.

    The user's XDG folders are read by platformdirs, from the environment of this process and not from `env`.
    Raises Denied if the folder for the sockets is a private one in /tmp and is not ours alone.
    """
    if home is not None and not os.fspath(home):
        raise UsageError("--home is empty", advice="name a folder, or leave the option out")
    chosen = home if home is not None else env.get("FUSION_HOME")
    paths = _below(_absolute(chosen)) if chosen else _of_system_or_user(env)
    if env.get("FUSION_CONFIG"):
        paths = replace(paths, config_file=_absolute(env["FUSION_CONFIG"]))
    if env.get("FUSION_MODELS"):
        paths = replace(paths, models=_absolute(env["FUSION_MODELS"]))
    if _longest_socket(paths.run) > SOCKET_PATH_MAX:
        paths = replace(paths, run=_private_folder(paths.state))
    if _is_private(paths):
        _refuse_if_not_private(paths.run)
    return paths


def service_paths() -> Paths:
    """The paths of the system's service, as its unit file has them."""
    return Paths(
        home=None,
        config_file=Path("/etc/fusion/config.toml"),
        state=Path("/var/lib/fusion"),
        models=Path("/var/cache/fusion/models"),
        run=Path("/run/fusion"),
        shared=True,
    )


def prepare(paths: Paths) -> None:
    """Makes the folders for sockets, state and logs, 0700.

    One that is there already must be ours and writable, and is closed to others; of a shared daemon the group may
    stay (systemd's 0750). Raises Denied if something is not permitted, ConfigError if it cannot be.
    """
    allowed = 0o750 if paths.shared else 0o700
    if _is_private(paths):
        _make_private(paths)
    else:
        _make(paths.run, allowed)
    _make(paths.state, allowed)
    _make(paths.logs, allowed)


def _below(home: Path) -> Paths:
    return Paths(home, home / "config.toml", home / "state", home / "models", home / "run")


def _absolute(path: str | os.PathLike[str]) -> Path:
    """One spelling for one place: two ways to write a home must not make two daemons of it."""
    return Path(os.path.realpath(os.path.expanduser(path)))  # noqa: PTH111  (Path.expanduser raises for unknown users)


def _of_system_or_user(env: Mapping[str, str]) -> Paths:
    config = _given(env, "CONFIGURATION_DIRECTORY") or _of_user("config")
    state = _given(env, "STATE_DIRECTORY") or _of_user("state")
    cache = _given(env, "CACHE_DIRECTORY") or _of_user("cache")
    run = _given(env, "RUNTIME_DIRECTORY") or _runtime_of_user(env, state)
    return Paths(
        home=None,
        config_file=config / "config.toml",
        state=state,
        models=cache / "models",
        run=run,
        shared=bool(_given(env, "RUNTIME_DIRECTORY")),
    )


def _given(env: Mapping[str, str], name: str) -> Path | None:
    """A folder that systemd made for us; it separates several by colons."""
    first = env.get(name, "").split(":")[0]
    return Path(first) if first else None


def _of_user(kind: str) -> Path:
    import platformdirs

    try:
        folder = Path(getattr(platformdirs, f"user_{kind}_dir")("fusion"))
    except RuntimeError:  # older ones return a "~" instead
        folder = Path("~")
    if not folder.is_absolute():  # no HOME, and no such user: a container's invented uid
        raise ConfigError(
            f"user {os.geteuid()} has no home folder", advice="name one with --home or FUSION_HOME"
        )
    return folder


def _runtime_of_user(env: Mapping[str, str], state: Path) -> Path:
    """XDG_RUNTIME_DIR is not set under cron, and after `su` it is another user's: only our own counts."""
    for folder in (env.get("XDG_RUNTIME_DIR"), _RUN_USER / str(os.geteuid())):
        if folder and Path(folder).is_absolute() and _is_own_folder(Path(folder)):
            return Path(folder) / "fusion"
    return _private_folder(state)


def _is_own_folder(folder: Path) -> bool:
    try:
        found = folder.stat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _longest_socket(run: Path) -> int:
    names = ("router.sock", "supervisor.sock", "actors.sock")
    return max(len(os.fsencode(run / name)) for name in names)


# --- the private folder: short, in /tmp, named after what it stands in for ----------------------------------


def _private_root() -> Path:
    return _TEMPORARY / f"fusion-{os.geteuid()}"


def _private_folder(state: Path) -> Path:
    from hashlib import blake2s

    return _private_root() / blake2s(os.fsencode(state), digest_size=8).hexdigest()


def _is_private(paths: Paths) -> bool:
    return paths.run == _private_folder(paths.state)


def _make_private(paths: Paths) -> None:
    for folder in (paths.run.parent, paths.run):
        _refuse_if_not_private(paths.run)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder} cannot be made: {error.strerror}", advice=_SHORTER) from None
    _refuse_if_not_private(paths.run)


def _refuse_if_not_private(run: Path) -> None:
    """Anybody may make a folder in /tmp: what stands there under our name must be ours, and ours alone."""
    for folder in (run.parent, run):
        try:
            found = folder.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(found.st_mode):
            fault = "is a link" if stat.S_ISLNK(found.st_mode) else "is not a folder"
        elif found.st_uid != os.geteuid():
            fault = f"belongs to {_user(found.st_uid)}"
        elif found.st_mode & 0o077:
            fault = f"is open to other users (mode {stat.S_IMODE(found.st_mode):04o})"
        else:
            continue
        raise Denied(f"the folder for the sockets, {folder}, {fault}", advice=f"remove it, or {_SHORTER}")


# --- making folders -----------------------------------------------------------------------------------------


def _make(folder: Path, allowed: int) -> None:
    """Makes `folder`, or closes the one that is there to all that `allowed` does not grant."""
    try:
        made = not folder.exists()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if made:
            folder.chmod(allowed)  # whatever the umask says
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise Denied(
                f"{folder} belongs to {_user(found.st_uid)}", advice=f"run as that user, or {_ELSEWHERE}"
            )
        if found.st_mode & 0o777 & ~allowed:
            folder.chmod(found.st_mode & 0o777 & allowed)
    except (FileExistsError, NotADirectoryError):
        obstacle = next(part for part in (folder, *folder.parents) if os.path.lexists(part))
        raise ConfigError(f"{obstacle} is not a folder", advice=f"move it away, or {_ELSEWHERE}") from None
    except PermissionError as error:
        raise Denied(
            f"{folder} cannot be used: permission denied at {error.filename}", advice=_ELSEWHERE
        ) from None
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}", advice=_ELSEWHERE) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Denied(f"{folder} cannot be written to", advice=_ELSEWHERE)


def _user(uid: int) -> str:
    import pwd

    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
