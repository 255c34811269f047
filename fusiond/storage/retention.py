"""What has not been touched for long goes: conversations, runs, ended jobs. An open connection is handed in."""

from __future__ import annotations

import sqlite3

from fusiond.protocol.batches import ENDED
from fusiond.storage import batches

_AT_ONCE = 50  # of each kind; whoever waits for the database waits for no more


def expire(db: sqlite3.Connection, before: str) -> bool:
    """Deletes a part of what was last touched before this moment (ISO 8601 in UTC); returns whether there may be more.

    Of a job its rows remain for `batches.purge`.
    """
    gone = db.execute(
        "DELETE FROM sessions WHERE n IN (SELECT n FROM sessions WHERE updated < ? LIMIT ?)",
        (before, _AT_ONCE),
    ).rowcount
    gone += db.execute(
        "DELETE FROM runs WHERE n IN (SELECT n FROM runs WHERE updated < ? AND state <> 'running' LIMIT ?)",
        (before, _AT_ONCE),
    ).rowcount
    ended = ", ".join("?" * len(ENDED))
    jobs = db.execute(
        f"SELECT n FROM batches WHERE key IS NOT NULL AND updated < ? AND state IN ({ended}) LIMIT ?",  # noqa: S608
        (before, *ENDED, _AT_ONCE),
    ).fetchall()
    for (n,) in jobs:
        batches.discard(db, n)
    return bool(gone or jobs)
