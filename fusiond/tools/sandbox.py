"""What the operating system keeps a shell command from, on this machine.

| what there is | what a command can reach |
|---|---|
| bubblewrap | the workspace, a /tmp of its own, the system's programs read-only; no network, no other process |
| Landlock | the workspace; the system's programs read-only; from ABI 4 on no TCP; Unix sockets of the user's |
| neither | whatever the daemon's user can reach; it still ends with all that it starts |
"""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from fusiond.config.schema import ToolsSettings

Kind = Literal["bubblewrap", "landlock", "none"]

_UNSHARED = ("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc")
_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt")
_OF_ETC = (  # what programs look up; not what services keep there, keys among it
    *(
        "alternatives",
        "ld.so.cache",
        "ld.so.conf",
        "ld.so.conf.d",
        "nsswitch.conf",
        "passwd",
        "group",
        "hosts",
    ),
    *("localtime", "timezone", "locale.conf", "mime.types", "ssl/certs", "ssl/openssl.cnf", "pki/tls/certs"),
    *("ca-certificates", "ca-certificates.conf", "terminfo", "fonts", "python3", "perl", "java-17-openjdk"),
)
_READ_ONLY = (*_PROGRAMS, *(f"/etc/{name}" for name in _OF_ETC))
_TRIAL_S = 5.0
_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_NO_NEW_PRIVS = 38

# include/uapi/linux/landlock.h
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_FS_OF_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many rights on files each knows
_NET_ABI, _SCOPE_ABI = 4, 6


class Sandbox(NamedTuple):
    """A command as it is to be started: its arguments, and what is to be done in its process before it begins."""

    argv: list[str]
    prepare: Callable[[], None] | None = None


def describe(settings: ToolsSettings) -> str:
    """One plain sentence on what isolates a shell command here."""
    if settings.sandbox == "off":
        return 'no isolation: tools.sandbox is "off"; a command can do whatever the daemon\'s user can'
    kind = available()
    if kind == "bubblewrap":
        return (
            "bubblewrap: a command sees the workspace, a /tmp of its own and the system's programs read-only; "
            "no network, no other process"
        )
    if kind == "landlock":
        net = " and no TCP" if landlock_abi() >= _NET_ABI else ""
        return (
            f"Landlock (ABI {landlock_abi()}): a command may write to the workspace only, and read the system's "
            f"programs{net}; it can speak to what listens on Unix sockets here"
        )
    return (
        "no isolation by the operating system beyond processes: neither bubblewrap nor Landlock works here; a "
        "command can read and write whatever the daemon's user can (install bubblewrap)"
    )


def refusal(settings: ToolsSettings) -> str:
    """Why no shell command may be run here, "" if it may."""
    if settings.sandbox == "required" and available() == "none":
        return (
            'tools.sandbox is "required", and neither bubblewrap nor Landlock works here: install bubblewrap'
        )
    return ""


def sandboxed(argv: Sequence[str], workspace: Path, settings: ToolsSettings) -> Sandbox:
    """`argv` as it is to be started, in the best isolation that this machine has."""
    kind = "none" if settings.sandbox == "off" else available()
    if kind == "bubblewrap":
        return Sandbox([*_bubblewrap(workspace), *argv])
    if kind == "landlock":
        return Sandbox(list(argv), lambda: restrict(workspace))
    return Sandbox(list(argv))


@cache
def available() -> Kind:
    """The best there is. Looked for once in the life of a process."""
    if _bubblewrap_works():
        return "bubblewrap"
    return "landlock" if landlock_abi() > 0 else "none"


# --- bubblewrap ------------------------------------------------------------------------------------------------------


def _bubblewrap_works() -> bool:
    """Installed, and allowed to do its work: many containers forbid it."""
    if shutil.which("bwrap") is None:
        return False
    try:
        trial = subprocess.run(
            [*_bubblewrap(Path("/usr")), "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TRIAL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return trial.returncode == 0


def _bubblewrap(workspace: Path) -> list[str]:
    words = ["bwrap", *_UNSHARED, "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    for path in _READ_ONLY:
        if os.path.islink(path):  # noqa: PTH114 - /bin on a merged /usr
            words += ["--symlink", os.readlink(path), path]  # noqa: PTH115
        else:
            words += ["--ro-bind-try", path, path]
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108 - its own
    return [*words, "--bind", str(workspace), str(workspace), "--chdir", str(workspace), "--"]


# --- Landlock --------------------------------------------------------------------------------------------------------


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def landlock_abi() -> int:
    """The version of Landlock that the kernel speaks, 0 for none."""
    return max(
        0, int(_libc.syscall(ctypes.c_long(_CREATE), None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)))
    )


def restrict(workspace: Path) -> None:
    """This process and its children may change nothing but `workspace` from now on. Raises OSError."""
    abi = landlock_abi()
    everything = (1 << _FS_OF_ABI.get(min(abi, max(_FS_OF_ABI)), 13)) - 1
    ruleset = _Ruleset(everything, 3 if abi >= _NET_ABI else 0, 3 if abi >= _SCOPE_ABI else 0)
    size = 24 if abi >= _SCOPE_ABI else 16 if abi >= _NET_ABI else 8
    fd = _call(_CREATE, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        look = _EXECUTE | _READ_FILE | _READ_DIR
        for path in (*_READ_ONLY, "/proc"):
            _allow(fd, path, look)
        for path in ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"):
            _allow(fd, path, _READ_FILE | _WRITE_FILE)
        _allow(fd, str(workspace), everything)
        if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
        _call(_RESTRICT, ctypes.c_int(fd), ctypes.c_uint32(0))
    finally:
        os.close(fd)


def _allow(ruleset: int, path: str, rights: int) -> None:
    """What is not there need not be allowed."""
    with suppress(FileNotFoundError):
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                rights &= ~_READ_DIR
            rule = _Beneath(rights, fd)
            _call(
                _ADD,
                ctypes.c_int(ruleset),
                ctypes.c_uint32(_PATH_BENEATH),
                ctypes.byref(rule),
                ctypes.c_uint32(0),
            )
        finally:
            os.close(fd)


def _call(number: int, *args: object) -> int:
    result = _libc.syscall(ctypes.c_long(number), *args)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return int(result)
