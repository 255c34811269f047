"""Files beneath a folder, and none elsewhere: no `..`, no link and no mount trick leads out.

openat2(2) resolves a path entirely below a folder in the kernel, so there is no moment between a check and its use.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_OPENAT2 = 437  # the same on every architecture
_RESOLVE_NO_MAGICLINKS, _RESOLVE_BENEATH = 0x02, 0x08
_AGAIN = 3  # a rename elsewhere may make the kernel ask for another try


class Outside(ValueError):
    """The path leads out of the folder, or to what is no file; the text is for whoever asked."""


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class Folder:
    """A folder that is made, for its owner only, when it is missing."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def relative(self, path: str) -> str:
        """`path` as it is looked up: relative to the folder; one that begins with the folder is taken as meant."""
        if "\0" in path:
            raise Outside("a path cannot hold a NUL character")
        whole = str(self.root)
        if path == whole or path.startswith(f"{whole}/"):
            path = path[len(whole) :].lstrip("/")
        if path.startswith("/"):
            raise Outside(f"{path} is outside of the workspace: give a path relative to it")
        return path or "."

    def open(self, path: str, flags: int, mode: int = 0) -> int:
        """A descriptor. Raises Outside, or OSError for what is wrong with the file."""
        inside = self.relative(path)
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        root = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _open_beneath(root, inside, flags, mode)
        except OSError as error:
            if error.errno in (errno.EXDEV, errno.ELOOP):
                raise Outside(f"{path} leads out of the workspace") from None
            raise
        finally:
            os.close(root)

    def open_file(self, path: str) -> int:
        """The same for reading, of what is a file: no device, no pipe, nothing that could block or never end."""
        fd = self.open(path, os.O_RDONLY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            kind = _kind(os.fstat(fd).st_mode)
            os.close(fd)
            raise Outside(f"{path} is {kind}, not a file")
        return fd

    @contextmanager
    def parent(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """The descriptor of the folder that holds `path`, made with those above it if need be, and the last name."""
        inside = self.relative(path).rstrip("/")
        above, _, name = inside.rpartition("/")
        if name in ("", ".", ".."):
            raise Outside(f"{path} is no name of a file")
        if make:
            self._make(above)
        fd = self.open(above or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield fd, name
        finally:
            os.close(fd)

    def _make(self, path: str) -> None:
        """Each folder of `path`, below the one before."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        for end in range(1, len(parts) + 1):
            fd = self.open("/".join(parts[: end - 1]) or ".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.mkdir(parts[end - 1], 0o777, dir_fd=fd)
            except FileExistsError:
                pass
            finally:
                os.close(fd)


def _open_beneath(root: int, path: str, flags: int, mode: int) -> int:
    how = _How(flags | os.O_CLOEXEC, mode, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    for _ in range(_AGAIN):
        fd = _libc.syscall(
            ctypes.c_long(_OPENAT2),
            root,
            os.fsencode(path),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if fd >= 0:
            return int(fd)
        if ctypes.get_errno() != errno.EAGAIN:
            break
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EPERM):  # a kernel before 5.6, or a sandbox that does not know the call
        return _walk(root, path, flags, mode)
    raise OSError(code, os.strerror(code), path)


def _walk(root: int, path: str, flags: int, mode: int) -> int:
    """Without openat2: name by name, and no link is followed at all."""
    here = os.dup(root)
    try:
        *above, name = [part for part in path.split("/") if part not in ("", ".")] or ["."]
        if ".." in (*above, name):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
        for part in above:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = below
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=here)
    finally:
        os.close(here)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a device, a pipe or a socket"
