"""What SQLite and the disk say, in words for a person: what is wrong and what to do."""

from __future__ import annotations

import errno
import sqlite3
from typing import NamedTuple

from fusiond.errors import StorageError


class Locked(StorageError):
    """Another process is writing just now; the same write may succeed in a moment."""


class _Fault(NamedTuple):
    """`lost`: the connection is of no further use, the file must be opened anew."""

    message: str
    advice: str
    lost: bool = False


DAMAGED = "stop the daemon and move the file away, or repair it: sqlite3 FILE .recover; it is left as it is"

_KEPT = "nothing recorded is lost"
_FULL = _Fault("the disk is full: {where} cannot grow", f"free some space and try again; {_KEPT}")
_READ_ONLY = _Fault(
    "{where} cannot be written: it is read-only", f"make the file and its folder writable; {_KEPT}", lost=True
)
_CORRUPT = _Fault("{where} is damaged ({detail})", DAMAGED, lost=True)
_NO_ACCESS = _Fault(
    "{where} cannot be opened ({detail})",
    "check that its folder exists and that you may write there",
    lost=True,
)
_DISK = _Fault(
    "the disk failed under {where} ({detail})",
    "check the free space, quota and health of the disk",
    lost=True,
)
_OTHER = _Fault("{where} does not take it ({detail})", "")

_BY_CODE = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_CORRUPT: _CORRUPT,
    sqlite3.SQLITE_NOTADB: _CORRUPT,
    sqlite3.SQLITE_CANTOPEN: _NO_ACCESS,
    sqlite3.SQLITE_PERM: _NO_ACCESS,
    sqlite3.SQLITE_IOERR: _DISK,
}
_BY_ERRNO = {errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EROFS: _READ_ONLY, errno.EIO: _DISK}
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _primary(error: sqlite3.Error) -> int:
    """The first byte of an extended result code says what kind of error it is (sqlite.org/rescode.html)."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF


def loses_connection(error: sqlite3.Error) -> bool:
    """Whether the file must be opened anew after `error`."""
    return _BY_CODE.get(_primary(error), _OTHER).lost


def explain(error: sqlite3.Error | OSError, where: str) -> StorageError:
    """`error` in words. `where` names the database, as it stands at the beginning of a sentence."""
    if isinstance(error, OSError):
        fault, detail = _BY_ERRNO.get(error.errno or 0, _NO_ACCESS), error.strerror or str(error)
    elif _primary(error) in _LOCKED:
        return Locked(
            f"{where} is locked by another process",
            advice="end whatever else has the file open for writing (fuser names it) and try again",
            retry_after=1.0,
        )
    else:
        fault, detail = _BY_CODE.get(_primary(error), _OTHER), str(error)
    return StorageError(fault.message.format(where=where, detail=detail), advice=fault.advice)
