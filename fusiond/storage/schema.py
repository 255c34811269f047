"""The tables, and how they came about.

`PRAGMA user_version` counts the migrations that a file has been through. A migration, once released, is never
edited; the next one is appended. Small columns stand before texts: lists need not read through long messages.
"""

from __future__ import annotations

import sqlite3

from fusiond.errors import StorageError

APPLICATION_ID = 0x4675736E
"""Marks the file as ours ("Fusn"): another program's database is not taken for one to migrate."""

_SESSIONS = (
    """
    CREATE TABLE sessions (
        n         INTEGER PRIMARY KEY,
        id        TEXT    NOT NULL UNIQUE,
        uid       INTEGER NOT NULL,  -- whose it is; -1: nobody known
        last_turn INTEGER NOT NULL,  -- turns.n of the newest; "used last" does not depend on the clock
        created   TEXT    NOT NULL,
        updated   TEXT    NOT NULL,
        title     TEXT    NOT NULL
    )
    """,
    "CREATE INDEX sessions_by_use ON sessions (last_turn)",
    """
    CREATE TABLE turns (
        n             INTEGER PRIMARY KEY,  -- the order in which they began, over all sessions
        turn          TEXT    NOT NULL UNIQUE,
        session       TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
        began         TEXT    NOT NULL,
        ended         TEXT,
        complete      INTEGER,              -- NULL: no answer yet, 0: cut short, 1: whole
        attempts      INTEGER,
        input_tokens  INTEGER,
        output_tokens INTEGER,
        model         TEXT    NOT NULL,     -- the one asked for, then the one that answered
        finish_reason TEXT,
        system        TEXT,                 -- NULL: as before
        prompt        TEXT    NOT NULL,
        answer        TEXT
    )
    """,
    "CREATE INDEX turns_of_session ON turns (session, n)",
)

_BATCHES = (
    """
    CREATE TABLE batches (
        n             INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice: its rows may outlive it for a while
        id            TEXT    NOT NULL UNIQUE,
        key           TEXT,                 -- what it is made of; NULL: discarded
        uid           INTEGER NOT NULL,
        state         TEXT    NOT NULL,
        created       TEXT    NOT NULL,
        updated       TEXT    NOT NULL,
        began         TEXT,
        ended         TEXT,
        source        TEXT    NOT NULL,
        reason        TEXT    NOT NULL DEFAULT '',
        code          TEXT    NOT NULL DEFAULT '',  -- of the error that is the reason
        settings      BLOB    NOT NULL,
        total         INTEGER NOT NULL,
        received      INTEGER NOT NULL DEFAULT 0,
        next          INTEGER NOT NULL DEFAULT 0,  -- the first item that was never given out
        completed     INTEGER NOT NULL DEFAULT 0,
        failed        INTEGER NOT NULL DEFAULT 0,
        asked_twice   INTEGER NOT NULL DEFAULT 0,
        retries       INTEGER NOT NULL DEFAULT 0,
        input_tokens  INTEGER NOT NULL DEFAULT 0,
        output_tokens INTEGER NOT NULL DEFAULT 0,
        latencies     BLOB    NOT NULL DEFAULT x''
    )
    """,
    "CREATE UNIQUE INDEX batches_by_key ON batches (uid, key) WHERE key IS NOT NULL",
    "CREATE INDEX batches_by_state ON batches (state)",
    """
    CREATE TABLE batch_items (
        id        INTEGER PRIMARY KEY,  -- batches.n << 32 | its number
        custom_id TEXT    NOT NULL,
        url       TEXT    NOT NULL,
        body      BLOB    NOT NULL
    )
    """,
    """
    CREATE TABLE batch_held (
        id    INTEGER PRIMARY KEY,
        asked INTEGER NOT NULL DEFAULT 0,  -- 1: given out, perhaps to somebody who has died since
        again INTEGER NOT NULL DEFAULT 0,  -- how often it was given out although it had been already
        tries INTEGER NOT NULL DEFAULT 0   -- how often it was asked again after an error
    )
    """,
    """
    CREATE TABLE batch_results (
        id       INTEGER PRIMARY KEY,
        asks     INTEGER NOT NULL,
        ms       REAL    NOT NULL,
        status   INTEGER NOT NULL,
        request  TEXT    NOT NULL,
        response BLOB    NOT NULL,
        code     TEXT    NOT NULL,
        message  TEXT    NOT NULL
    )
    """,
)

_RUNS = (
    """
    CREATE TABLE runs (
        n             INTEGER PRIMARY KEY,
        id            TEXT    NOT NULL UNIQUE,
        uid           INTEGER NOT NULL,
        owner         TEXT    NOT NULL,     -- who may write to it: the one that began to work on it last
        boot          TEXT    NOT NULL,     -- the daemon that it ran under last
        state         TEXT    NOT NULL,
        agent         TEXT    NOT NULL,
        parent        TEXT    NOT NULL,     -- the run that called it, "" for none
        session       TEXT    REFERENCES sessions (id) ON DELETE CASCADE,
        turn          TEXT    NOT NULL,
        created       TEXT    NOT NULL,
        updated       TEXT    NOT NULL,
        finish_reason TEXT,
        input_tokens  INTEGER,              -- of the whole run, once it has ended
        output_tokens INTEGER,
        error_code    TEXT    NOT NULL DEFAULT '',
        error         TEXT    NOT NULL DEFAULT '',
        model         TEXT    NOT NULL DEFAULT '',
        answered_by   TEXT    NOT NULL DEFAULT '',
        task          TEXT    NOT NULL,
        request       BLOB    NOT NULL,
        answer        TEXT    NOT NULL DEFAULT ''
    )
    """,
    "CREATE INDEX runs_of_parent ON runs (parent)",
    "CREATE INDEX runs_of_session ON runs (session)",
    "CREATE INDEX runs_by_state ON runs (state)",
    """
    CREATE TABLE run_steps (
        run           INTEGER NOT NULL REFERENCES runs (n) ON DELETE CASCADE,
        n             INTEGER NOT NULL,
        input_tokens  INTEGER,
        output_tokens INTEGER,
        step          BLOB    NOT NULL,     -- msgpack
        PRIMARY KEY (run, n)
    )
    """,
)

MIGRATIONS: list[tuple[str, ...]] = [_SESSIONS, _BATCHES, _RUNS]
"""The statements that lead from version i to version i + 1, at index i."""


def migrate(db: sqlite3.Connection, where: str) -> None:
    """Brings the schema up to date in one transaction: all of it or nothing.

    Raises what `check` raises.
    """
    if check(db, where) == len(MIGRATIONS):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[check(db, where) :]:
            for statement in statements:
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def check(db: sqlite3.Connection, where: str) -> int:
    """How many migrations the file has been through, without writing to it.

    Raises StorageError for a file of a newer version or of another program.
    """
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    application: int = db.execute("PRAGMA application_id").fetchone()[0]
    tables: int = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and (version or tables):
        raise StorageError(
            f"{where} belongs to another program", advice="move that file away, or choose another home"
        )
    if version > len(MIGRATIONS):
        raise StorageError(
            f"{where} was written by a newer Fusion (schema {version}, this one knows {len(MIGRATIONS)})",
            advice="install the newer version again, or choose another home",
        )
    return version
