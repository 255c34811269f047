"""Runs of agents: the queries behind the verbs `runs.*` of `fusiond.protocol.agents`.

As for sessions: an open connection is handed in, transactions are the caller's, and a run belongs to the uid that
began it. Only the owner of a run may write to it; whoever begins it, or begins it again, is its owner from then on. So
of two processes that believe that a run is theirs, one is refused.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from fusiond.errors import Denied, NotFound, UsageError
from fusiond.protocol.agents import (
    BeginRun,
    EndRun,
    ListRuns,
    RunDetail,
    RunId,
    RunRecord,
    RunSummary,
    Step,
    WriteStep,
)
from fusiond.storage.sessions import bounded

_ANYBODY = -1
_COLUMNS = (
    "id, agent, state, task, answer, created, updated, finish_reason, error, ifnull(session, '') AS session,"
    " parent, model, answered_by, (SELECT count(*) FROM run_steps WHERE run = runs.n) AS steps,"
    " ifnull(input_tokens, (SELECT sum(input_tokens) FROM run_steps WHERE run = runs.n)) AS input_tokens,"
    " ifnull(output_tokens, (SELECT sum(output_tokens) FROM run_steps WHERE run = runs.n)) AS output_tokens"
)
_ADVICE = "see: fusionctl agents runs"

_encode = msgspec.msgpack.Encoder().encode
_decode_step = msgspec.msgpack.Decoder(Step).decode


def begin(db: sqlite3.Connection, ask: BeginRun, now: str, boot: str = "") -> RunRecord:
    """Makes the run, or takes it over. One that is completed stays as it is.

    Raises NotFound where there is none and `ask` does not say which agent is to run.
    """
    known = db.execute("SELECT n, uid, state FROM runs WHERE id = ?", (ask.run,)).fetchone()
    if known is None and not ask.agent:
        raise NotFound(f'there is no run "{ask.run}"', advice=_ADVICE)
    if known is None:
        made = {"boot": boot, "now": now, **msgspec.structs.asdict(ask), "session": ask.session or None}
        n = db.execute(
            "INSERT INTO runs (id, uid, owner, boot, state, agent, parent, session, turn, created, updated, task,"
            " request) VALUES (:run, :uid, :owner, :boot, 'running', :agent, :parent, :session, :turn, :now, :now,"
            " :task, :request) RETURNING n",
            made,
        ).fetchone()[0]
    else:
        n, uid, state = known
        if ask.uid not in (_ANYBODY, uid):
            raise Denied("the name of this run is in use by somebody else", advice="begin it under a new one")
        if state != "completed":
            db.execute(
                "UPDATE runs SET owner = ?, boot = ?, state = 'running', error = '', error_code = '', updated = ?"
                " WHERE n = ?",
                (ask.owner, boot, now, n),
            )
    request, code, turn = db.execute(
        "SELECT request, error_code, turn FROM runs WHERE n = ?", (n,)
    ).fetchone()
    summary = _summaries(db, "n = :n", {"n": n})[0]
    answered = _answered(db, summary.session, n) if summary.session and not summary.parent else []
    return RunRecord(
        summary=summary,
        request=request,
        steps=_steps(db, n),
        error_code=code,
        turn=turn,
        answered=answered,
    )


def write(db: sqlite3.Connection, ask: WriteStep, now: str) -> None:
    """Records a step, or its next state."""
    n = _owned(db, ask.run, ask.owner)
    step = ask.step
    db.execute(
        "INSERT INTO run_steps (run, n, input_tokens, output_tokens, step) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (run, n) DO UPDATE SET step = excluded.step",
        (n, step.n, step.input_tokens, step.output_tokens, _encode(step)),
    )
    db.execute("UPDATE runs SET updated = ?, state = ? WHERE n = ?", (now, ask.state, n))


def end(db: sqlite3.Connection, ask: EndRun, now: str) -> None:
    """Records how the run ended, or what it waits for."""
    n = _owned(db, ask.run, ask.owner)
    db.execute(
        "UPDATE runs SET updated = :now, state = :state, answer = :answer, finish_reason = :finish_reason,"
        " error = :error, error_code = :error_code, answered_by = :answered_by,"
        " input_tokens = :input_tokens, output_tokens = :output_tokens,"
        " model = CASE :model WHEN '' THEN model ELSE :model END WHERE n = :n",
        {"now": now, "n": n, **msgspec.structs.asdict(ask)},
    )


def newest(db: sqlite3.Connection, ask: ListRuns) -> list[RunSummary]:
    """The runs begun last, the latest first."""
    where = (
        "(:uid = -1 OR uid = :uid) AND parent = '' AND (:session = '' OR session = :session)"
        " ORDER BY n DESC LIMIT :limit"
    )
    return _summaries(db, where, {"uid": ask.uid, "session": ask.session, "limit": bounded(ask.limit)})


def show(db: sqlite3.Connection, ask: RunId) -> RunDetail:
    """A run with its steps."""
    n = _find(db, ask.id, ask.uid)
    summary = _summaries(db, "n = :n", {"n": n})[0]
    return RunDetail(**msgspec.structs.asdict(summary), trace=_steps(db, n))


def interrupt(db: sqlite3.Connection, boot: str) -> None:
    """What ran under another daemon runs no more."""
    db.execute("UPDATE runs SET state = 'interrupted' WHERE state = 'running' AND boot <> ?", (boot,))


def _summaries(db: sqlite3.Connection, where: str, given: dict[str, Any]) -> list[RunSummary]:
    cursor = db.execute(f"SELECT {_COLUMNS} FROM runs WHERE {where}", given)  # noqa: S608 — texts of ours
    names = [column[0] for column in cursor.description]
    return [msgspec.convert(dict(zip(names, row, strict=True)), RunSummary) for row in cursor]


def _steps(db: sqlite3.Connection, n: int) -> list[Step]:
    rows = db.execute("SELECT step FROM run_steps WHERE run = ? ORDER BY n", (n,))
    return [_decode_step(step) for (step,) in rows]


def _answered(db: sqlite3.Connection, session: str, before: int) -> list[str]:
    rows = db.execute(
        "SELECT answered_by FROM runs WHERE session = ? AND n < ? AND parent = '' AND answered_by <> '' ORDER BY n",
        (session, before),
    )
    return [agent for (agent,) in rows]


def _owned(db: sqlite3.Connection, run: str, owner: str) -> int:
    known = db.execute("SELECT n, owner FROM runs WHERE id = ?", (run,)).fetchone()
    if known is None:
        raise NotFound(f"run {run} is gone, it cannot be recorded any more")
    if known[1] != owner:
        raise Denied(f"run {run} is another process's now")
    return int(known[0])


def _find(db: sqlite3.Connection, wanted: str, uid: int) -> int:
    """The run of `uid` with the id `wanted`, or the only one whose id begins so."""
    wanted = wanted.strip().lower()
    fits = db.execute(
        "SELECT n, id FROM runs WHERE id >= :wanted AND id < :end AND (:uid = -1 OR uid = :uid)"
        " AND (parent = '' OR id = :wanted) ORDER BY id LIMIT 2",
        {"wanted": wanted, "end": wanted + "\N{DELETE}", "uid": uid},
    ).fetchall()
    if not wanted or not fits:
        raise NotFound(f'there is no run "{wanted}"', advice=_ADVICE)
    if len(fits) > 1 and fits[0][1] != wanted:
        raise UsageError(
            f'more than one run begins with "{wanted}"', advice=f"give more of its id; {_ADVICE}"
        )
    return int(fits[0][0])
