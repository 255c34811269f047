"""Batch jobs: the queries behind the verbs of `fusiond.protocol.batches`.

The functions take an open connection and leave transactions to their caller. Item `i` of job `n` is row `n << 32 | i`:
what belongs to a job is one range of numbers, in order, and no question to a table reads more than it answers.

The life of an item: fresh (its number is not below `batches.next`) → held (a row in `batch_held`) → a row in
`batch_results`, and never a second one.
"""

from __future__ import annotations

import math
import sqlite3
from array import array
from collections.abc import Iterable
from itertools import chain, islice

import msgspec

from fusiond.errors import NotFound, UsageError
from fusiond.protocol.batches import (
    ENDED,
    AddItems,
    BeginJob,
    Claimed,
    Job,
    JobDetail,
    JobId,
    JobSettings,
    JobState,
    Latency,
    ListJobs,
    Move,
    Outcome,
    ReadResults,
    RequestCounts,
    Result,
    Step,
    Stepped,
)
from fusiond.storage.names import candidates

MOST_ITEMS = 1 << 31
_PAGE_BYTES = 8 << 20  # of items or results in one message, or one of them if it is larger
_MOST_HELD = 100_000  # items given out in one step
_PURGED = 2000  # rows deleted in one transaction: a deletion must not hold up the others
_ANYBODY = -1
_ADVICE = "see: fusionctl batches list"
_BUCKETS, _GROWTH = 160, 1.1  # of the latencies: 1 ms to an hour, within 5 %

_COLUMNS = (
    "id, state, created, source, total, completed, failed, asked_twice, reason, code, received, settings, uid,"
    " updated, began, ended, retries, input_tokens, output_tokens, latencies, n, next"
)
_encode_settings = msgspec.msgpack.Encoder().encode
_decode_settings = msgspec.msgpack.Decoder(JobSettings).decode


def begin(db: sqlite3.Connection, ask: BeginJob, now: str) -> Job:
    """The job with this key, made if there is none."""
    if not 0 < ask.total < MOST_ITEMS:
        raise UsageError(f"a job has between 1 and {MOST_ITEMS:,} items, not {ask.total:,}")
    found = db.execute("SELECT n FROM batches WHERE uid = ? AND key = ?", (ask.uid, ask.key)).fetchone()
    if found is not None and ask.restart:
        discard(db, found[0])
        found = None
    if found is None:
        return _job(_row(db, _insert(db, ask, now)))
    (n,) = found
    if ask.retry_errors and _row(db, n)["state"] in ("in_progress", *ENDED):
        _forget_errors(db, n)
    db.execute(
        "UPDATE batches SET settings = ?, source = ?, updated = ? WHERE n = ?",
        (_encode_settings(ask.settings), ask.source, now, n),
    )
    return _job(_row(db, n))


def add(db: sqlite3.Connection, ask: AddItems, now: str) -> Job:
    """Takes items; those that are there already are left as they are, a gap is refused."""
    row = _find(db, ask.job, ask.uid)
    n, received = row["n"], row["received"]
    if ask.first > received:
        raise UsageError(f"item {ask.first} was handed over before item {received}")
    fresh = ask.items[received - ask.first :]
    if received + len(fresh) > row["total"]:
        raise UsageError(f"the job {row['id']} has {row['total']} items, not more")
    db.executemany(
        "INSERT INTO batch_items (id, custom_id, url, body) VALUES (?, ?, ?, ?)",
        [(n << 32 | received + at, item.custom_id, item.url, item.body) for at, item in enumerate(fresh)],
    )
    db.execute("UPDATE batches SET received = received + ?, updated = ? WHERE n = ?", (len(fresh), now, n))
    return _job(_row(db, n))


def newest(db: sqlite3.Connection, ask: ListJobs) -> list[Job]:
    """The jobs made last, the latest first."""
    rows = _select(
        db,
        "WHERE (:uid = -1 OR uid = :uid) AND key IS NOT NULL ORDER BY n DESC LIMIT :limit",
        {"uid": ask.uid, "limit": min(max(ask.limit, 0), 100_000)},
    )
    return [_job(row) for row in rows]


def show(db: sqlite3.Connection, ask: JobId) -> JobDetail:
    """One job with its figures."""
    row = _find(db, ask.id, ask.uid)
    return JobDetail(
        **msgspec.structs.asdict(_job(row)),
        **{key: row[key] for key in ("updated", "began", "ended", "retries")},
        latency_ms=_percentiles(row["latencies"]),
    )


def unfinished(db: sqlite3.Connection) -> list[Job]:
    """The jobs that somebody has to work on."""
    rows = _select(db, "WHERE state IN ('in_progress', 'finalizing', 'cancelling') ORDER BY n", {})
    return [_job(row) for row in rows]


def results(db: sqlite3.Connection, ask: ReadResults) -> list[Result]:
    """What became of the items from `first` on, as many as fit into a message; those without a result are skipped."""
    n = _find(db, ask.job, ask.uid)["n"]
    rows = db.execute(
        "SELECT r.id & 4294967295, custom_id, status, request, response, code, message"
        " FROM batch_results r JOIN batch_items USING (id) WHERE r.id >= ? AND r.id < ? ORDER BY r.id LIMIT ?",
        (n << 32 | min(max(ask.first, 0), MOST_ITEMS), n + 1 << 32, min(max(ask.limit, 0), 100_000)),
    )
    page: list[Result] = []
    size = 0
    for row in rows:
        result = Result(*row)
        size += len(result.body)
        if page and size > _PAGE_BYTES:
            break
        page.append(result)
    return page


def step(db: sqlite3.Connection, ask: Step, now: str) -> Stepped:
    """Records results and gives out items, both or neither."""
    row = _find(db, ask.job, _ANYBODY)
    n = row["n"]
    _record(db, n, ask.outcomes, row["latencies"], now)
    db.executemany("UPDATE batch_held SET asked = 0 WHERE id = ?", [(n << 32 | i,) for i in ask.back])
    db.executemany(
        "UPDATE batch_held SET tries = tries + 1 WHERE id = ?", [(n << 32 | i,) for i in ask.retried]
    )
    if again := len(ask.retried) + ask.put_off:
        db.execute("UPDATE batches SET retries = retries + ? WHERE n = ?", (again, n))
    items: list[Claimed] = []
    if row["state"] == "in_progress":
        items = _give_out(db, n, ask, row["next"], row["received"])
    row = _row(db, n)
    if row["state"] == "in_progress" and row["completed"] + row["failed"] == row["total"]:
        db.execute("UPDATE batches SET state = 'finalizing', reason = '' WHERE n = ?", (n,))
        row = _row(db, n)
    return Stepped(items=items, job=_job(row))


_WAYS: dict[JobState, tuple[JobState, ...]] = {
    "validating": ("in_progress", "cancelled"),
    "in_progress": ("in_progress", "finalizing", "cancelling", "failed"),
    "finalizing": ("completed",),
    "cancelling": ("cancelled",),
    "failed": ("in_progress", "cancelled"),
    "cancelled": ("in_progress",),
    "expired": ("in_progress",),
    "completed": ("in_progress",),
}
"""From each state to those that may follow; `completed` goes on only when failed items are to be asked again."""


def move(db: sqlite3.Connection, ask: Move, now: str) -> Job:
    """Brings a job into a state. One that has come there by itself, or cannot go there, stays as it is."""
    row = _find(db, ask.job, _ANYBODY)
    state = _next_state(row, ask.state)
    if state is not None:
        db.execute(
            "UPDATE batches SET state = :state, reason = :reason, code = :code, updated = :now,"
            " began = ifnull(began, CASE :state WHEN 'in_progress' THEN :now END),"
            " ended = CASE WHEN :ended THEN :now END WHERE n = :n",
            {
                "state": state,
                "reason": ask.reason,
                "code": ask.code,
                "now": now,
                "ended": state in ENDED,
                "n": row["n"],
            },
        )
    return _job(_row(db, row["n"]))


def _next_state(row: sqlite3.Row, wanted: JobState) -> JobState | None:
    """Where a job goes that is told to go to `wanted`; None: nowhere."""
    if wanted not in _WAYS[row["state"]]:
        return None
    whole = row["received"] == row["total"]
    done = row["completed"] + row["failed"] == row["total"]
    if wanted in ("finalizing", "completed") and not done:
        return None
    if wanted == "in_progress" and (not whole or (done and row["state"] == "completed")):
        return None
    return "finalizing" if wanted == "in_progress" and done else wanted


def delete(db: sqlite3.Connection, ask: JobId, now: str) -> Job:  # noqa: ARG001 — as the other writes
    """Forgets a job that is not being worked on; its rows go bit by bit, see `purge`."""
    row = _find(db, ask.id, ask.uid)
    if row["state"] not in (*ENDED, "validating"):
        raise UsageError(
            f"the job {row['id']} is {row['state'].replace('_', ' ')}",
            advice=f"cancel it first: fusionctl batches cancel {row['id']}",
        )
    discard(db, row["n"])
    return _job(row)


def purge(db: sqlite3.Connection) -> bool:
    """Deletes a part of what belongs to discarded jobs; returns whether there is more."""
    found = db.execute("SELECT n FROM batches WHERE key IS NULL LIMIT 1").fetchone()
    if found is None:
        return False
    (n,) = found
    for table in ("batch_results", "batch_held", "batch_items"):
        gone = db.execute(
            f"DELETE FROM {table} WHERE id IN"  # noqa: S608 — one of ours
            f" (SELECT id FROM {table} WHERE id >= ? AND id < ? LIMIT ?)",
            (n << 32, n + 1 << 32, _PURGED),
        ).rowcount
        if gone == _PURGED:
            return True
    db.execute("DELETE FROM batches WHERE n = ?", (n,))
    return True


# --- inside ----------------------------------------------------------------------------------------------------------


def _insert(db: sqlite3.Connection, ask: BeginJob, now: str) -> int:
    for id in candidates(f"{ask.uid} {ask.key} {now}"):
        made = db.execute(
            "INSERT INTO batches (id, key, uid, state, created, updated, source, settings, total)"
            " VALUES (?, ?, ?, 'validating', ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            (id, ask.key, ask.uid, now, now, ask.source, _encode_settings(ask.settings), ask.total),
        )
        if made.rowcount and made.lastrowid is not None:
            return made.lastrowid
    raise AssertionError(f"every id for job {ask.key} is taken")


def discard(db: sqlite3.Connection, n: int) -> None:
    """From now on nobody finds it."""
    db.execute("UPDATE batches SET key = NULL, state = 'cancelled' WHERE n = ?", (n,))


def _forget_errors(db: sqlite3.Connection, n: int) -> None:
    """The failed items of a job that does not run are held again, by nobody."""
    scope = (n << 32, n + 1 << 32)
    db.execute(
        "INSERT OR IGNORE INTO batch_held (id) SELECT id FROM batch_results"
        " WHERE id >= ? AND id < ? AND code <> ''",
        scope,
    )
    gone = db.execute("DELETE FROM batch_results WHERE id >= ? AND id < ? AND code <> ''", scope).rowcount
    db.execute("UPDATE batches SET failed = failed - ? WHERE n = ?", (gone, n))


def _record(db: sqlite3.Connection, n: int, outcomes: Iterable[Outcome], latencies: bytes, now: str) -> None:
    completed = failed = twice = tokens_in = tokens_out = 0
    counts = _counts(latencies)
    for each in outcomes:
        id = n << 32 | each.n
        new = db.execute(
            "INSERT OR IGNORE INTO batch_results (id, asks, ms, status, request, response, code, message)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (id, each.asks, each.ms, each.status, each.request, each.body, each.code, each.message),
        ).rowcount
        (again,) = db.execute("SELECT ifnull(max(again), 0) FROM batch_held WHERE id = ?", (id,)).fetchone()
        db.execute("DELETE FROM batch_held WHERE id = ?", (id,))
        if not new:
            continue
        completed += not each.code
        failed += bool(each.code)
        twice += each.asks > 1 and not again  # one that was given out again has been counted then
        tokens_in += each.input_tokens
        tokens_out += each.output_tokens
        if not each.code:
            counts[min(_BUCKETS - 1, int(math.log(max(1.0, each.ms), _GROWTH)))] += 1
    if completed or failed:
        db.execute(
            "UPDATE batches SET completed = completed + ?, failed = failed + ?, asked_twice = asked_twice + ?,"
            " input_tokens = input_tokens + ?, output_tokens = output_tokens + ?, latencies = ?, updated = ?"
            " WHERE n = ?",
            (completed, failed, twice, tokens_in, tokens_out, counts.tobytes(), now, n),
        )


def _give_out(db: sqlite3.Connection, n: int, ask: Step, next: int, received: int) -> list[Claimed]:
    """Items without a holder first, then fresh ones; as many as fit into a message."""
    have = {n << 32 | i for i in ask.have}
    want = min(max(ask.want, 0), _MOST_HELD)
    held = db.execute(
        "SELECT id, asked, tries FROM batch_held WHERE id >= ? AND id < ? ORDER BY id", (n << 32, n + 1 << 32)
    )
    lost = {id: (asked, tries) for id, asked, tries in held if id not in have} if want else {}
    fresh = range(n << 32 | next, n << 32 | min(received, next + want))
    items: list[Claimed] = []
    size = 0
    for id in islice(chain(lost, fresh), want):
        url, body = db.execute("SELECT url, body FROM batch_items WHERE id = ?", (id,)).fetchone()
        size += len(body)
        if items and size > _PAGE_BYTES:
            break
        items.append(Claimed(id & 0xFFFFFFFF, url, body, lost[id][1] if id in lost else 0))
    given = [n << 32 | item.n for item in items]
    again, new = [id for id in given if id in lost], [id for id in given if id not in lost]
    db.executemany(
        "UPDATE batch_held SET asked = 1, again = again + asked WHERE id = ?", [(id,) for id in again]
    )
    db.executemany("INSERT INTO batch_held (id, asked) VALUES (?, 1)", [(id,) for id in new])
    db.execute(
        "UPDATE batches SET next = next + ?, asked_twice = asked_twice + ? WHERE n = ?",
        (len(new), sum(lost[id][0] for id in again), n),
    )
    return items


def _select(
    db: sqlite3.Connection, where: str, values: dict[str, object] | tuple[object, ...]
) -> list[sqlite3.Row]:
    cursor = db.cursor()
    cursor.row_factory = sqlite3.Row
    return cursor.execute(f"SELECT {_COLUMNS} FROM batches {where}", values).fetchall()  # noqa: S608 — ours


def _row(db: sqlite3.Connection, n: int) -> sqlite3.Row:
    return _select(db, "WHERE n = ?", (n,))[0]


def _find(db: sqlite3.Connection, wanted: str, uid: int) -> sqlite3.Row:
    """The job of `uid` with the id `wanted`, or the only one whose id begins so."""
    wanted = wanted.strip().lower()
    fits = _select(
        db,
        "WHERE id >= :wanted AND id < :end AND key IS NOT NULL AND (:uid = -1 OR uid = :uid)"
        " ORDER BY id LIMIT 2",
        {"wanted": wanted, "end": wanted + "\N{DELETE}", "uid": uid},
    )
    if not wanted or not fits:
        raise NotFound(f'there is no job "{wanted}"', advice=_ADVICE)
    if len(fits) > 1 and fits[0]["id"] != wanted:
        raise UsageError(
            f'more than one job begins with "{wanted}"', advice=f"give more of its id; {_ADVICE}"
        )
    return fits[0]


def _job(row: sqlite3.Row) -> Job:
    return Job(
        id=row["id"],
        state=row["state"],
        created=row["created"],
        source=row["source"],
        request_counts=RequestCounts(row["total"], row["completed"], row["failed"]),
        asked_twice=row["asked_twice"],
        reason=row["reason"],
        code=row["code"],
        received=row["received"],
        settings=_decode_settings(row["settings"]),
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        uid=row["uid"],
    )


def _counts(latencies: bytes) -> array[int]:
    return array("Q", latencies or bytes(8 * _BUCKETS))


def _percentiles(latencies: bytes) -> Latency:
    counts = _counts(latencies)
    total = sum(counts)

    def at(share: float) -> float | None:
        seen = 0
        for bucket, count in enumerate(counts):
            seen += count
            if total and seen >= share * total:
                return round(math.pow(_GROWTH, bucket + 0.5), 1)
        return None

    return Latency(at(0.5), at(0.9), at(0.99))
