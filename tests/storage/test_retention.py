"""What has not been touched for long goes."""

from __future__ import annotations

import sqlite3

from fusiond.protocol.agents import BeginRun, EndRun
from fusiond.protocol.batches import BeginJob, JobSettings, ListJobs, Move
from fusiond.protocol.sessions import BeginTurn, ListSessions
from fusiond.storage import batches, retention, runs, sessions

OLD, BEFORE, NEW = "2026-01-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z", "2026-03-01T00:00:00.000Z"


def expire(db: sqlite3.Connection) -> None:
    while retention.expire(db, BEFORE):
        pass
    while batches.purge(db):
        pass


def count(db: sqlite3.Connection, table: str) -> int:
    return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_old_conversations_go_with_their_turns_and_new_ones_stay(db: sqlite3.Connection) -> None:
    for n in range(120):
        sessions.begin(db, BeginTurn(turn=f"old-{n}", prompt="old"), OLD)
    sessions.begin(db, BeginTurn(turn="new", prompt="new"), NEW)
    expire(db)
    assert [each.title for each in sessions.newest(db, ListSessions())] == ["new"]
    assert count(db, "turns") == 1


def test_an_old_conversation_that_goes_on_stays(db: sqlite3.Connection) -> None:
    begun = sessions.begin(db, BeginTurn(turn="1", prompt="old"), OLD)
    sessions.begin(db, BeginTurn(turn="2", prompt="again", session=begun.session), NEW)
    expire(db)
    assert count(db, "turns") == 2


def test_ended_jobs_go_and_unfinished_ones_stay(db: sqlite3.Connection) -> None:
    for key, ending in (("ended", "cancelled"), ("waiting", "")):
        job = batches.begin(db, BeginJob(key=key, source=key, total=1, settings=JobSettings()), OLD)
        if ending:
            batches.move(db, Move(job=job.id, state="cancelled"), OLD)
    expire(db)
    assert [job.source for job in batches.newest(db, ListJobs())] == ["waiting"]
    assert count(db, "batches") == 1


def test_runs_go_unless_they_run(db: sqlite3.Connection) -> None:
    for run in ("over", "running"):
        runs.begin(db, BeginRun(run=run, owner="o", agent="general", task="t", request=b""), OLD, boot="b")
    runs.end(db, EndRun(run="over", owner="o", state="completed", answer="done"), OLD)
    expire(db)
    assert [id for (id,) in db.execute("SELECT id FROM runs")] == ["running"]
