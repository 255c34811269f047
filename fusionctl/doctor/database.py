"""The database: whole, ours, and of a version that this Fusion knows. Read only."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from fusionctl.doctor.case import Case
from fusionctl.doctor.finding import Finding
from fusionctl.render import size
from fusiond.errors import Denied

CHECK = "database"
APPLICATION_ID = 0x4675736E
SCHEMA = 3
"""The mark and the newest version that the store of this Fusion writes (`fusiond.storage.schema`; a test compares)."""

_PATIENCE = 20.0  # seconds
_REPAIR = "stop the daemon and move the file away, or repair it: sqlite3 FILE .recover; it is left as it is"


def check(case: Case) -> Iterator[Finding]:
    """SQLite's own quick check, and the marks of the file."""
    path = case.paths.database
    if not path.exists():
        in_memory = case.config is not None and case.config.sessions.storage == "memory"
        why = "conversations are kept in memory" if in_memory else "the first start makes it"
        yield Finding(CHECK, True, f"{path} does not exist: {why}")
        return
    if not os.access(path, os.R_OK):
        raise Denied(f"{path} may not be read", advice="run as the user whose it is")
    try:
        with closing(sqlite3.connect(_address(path), uri=True, timeout=1.0)) as db:
            yield _marks(db, path) or _integrity(db, path)
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            yield Finding(CHECK, False, f"{path} is damaged ({error})", _REPAIR)
        else:
            yield Finding(CHECK, False, f"{path} cannot be read: {error}", "check its folder and its disk")


def _address(path: Path) -> str:
    """Read only. Without a log nobody else has it open, and then not even a lock file may be made beside it."""
    log = path.with_name(f"{path.name}-wal")
    alone = "" if log.exists() else "&immutable=1"
    return f"file:{quote(str(path))}?mode=ro{alone}"


def _marks(db: sqlite3.Connection, path: Path) -> Finding | None:
    """What is wrong with whose it is and of which version, None if nothing."""
    version, application = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id")
    )
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and (version or tables):
        return Finding(
            CHECK, False, f"{path} belongs to another program", "move it away, or use another --home"
        )
    if version > SCHEMA:
        detail = f"{path} was written by a newer Fusion (schema {version}, this one knows {SCHEMA})"
        return Finding(CHECK, False, detail, "install the newer version again, or use another --home")
    return None


def _integrity(db: sqlite3.Connection, path: Path) -> Finding:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    what = f"{path}: {size(path.stat().st_size)}, schema {version}"
    deadline = time.monotonic() + _PATIENCE
    db.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
    try:
        faults = [row[0] for row in db.execute("PRAGMA quick_check(3)")]
    except sqlite3.OperationalError as error:
        if time.monotonic() <= deadline:
            raise
        return Finding(
            CHECK,
            True,
            f"{what}, looked through for {_PATIENCE:g} s ({error})",
            "sqlite3 FILE 'PRAGMA quick_check'",
        )
    if faults != ["ok"]:
        return Finding(CHECK, False, f"{path} is damaged ({'; '.join(map(str, faults))})", _REPAIR)
    return Finding(CHECK, True, f"{what}, whole")
