"""Conversations: the queries behind the verbs of `fusiond.protocol.sessions`.

The functions take an open connection and leave transactions to their caller. `now` is ISO 8601 in UTC.
A session belongs to the uid that began it, and to others does not exist; uid -1 is an asker inside the
daemon that speaks for nobody in particular, and sees all sessions.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import msgspec

from fusiond.errors import Denied, NotFound, UsageError
from fusiond.protocol.chat import Message
from fusiond.protocol.sessions import (
    BeginTurn,
    Conversation,
    FinishTurn,
    ListSessions,
    SessionDetail,
    SessionId,
    SessionSummary,
    StoredMessage,
    TurnAnswer,
    TurnRecorded,
)
from fusiond.storage.names import candidates

_ANYBODY = -1
_TITLE = 80  # characters
_MOST = 100_000  # sessions in one list
_ADVICE = "see: fusionctl sessions list"


def begin(db: sqlite3.Connection, ask: BeginTurn, now: str) -> Conversation:
    """Records the prompt unless this turn is known already; what the model needs to answer it."""
    known = db.execute(
        "SELECT turns.n, session, uid FROM turns JOIN sessions ON id = session WHERE turn = ?", (ask.turn,)
    ).fetchone()
    if known is None:
        session = _session_for(db, ask, now)
        n = _add_turn(db, ask, session, now)
    else:
        n, session, owner = known
        if ask.uid not in (_ANYBODY, owner):
            raise Denied(
                "the id of this request is in use by somebody else", advice="ask again with a new id"
            )
    return _conversation(db, session, n)


def finish(db: sqlite3.Connection, ask: FinishTurn, now: str) -> TurnRecorded:
    """Records the answer, unless a better one is there: a complete one, or one cut short later."""
    turn = db.execute(
        "SELECT n, complete, length(CAST(answer AS BLOB)) FROM turns WHERE turn = ? AND session = ?",
        (ask.turn, ask.session),
    ).fetchone()
    if turn is None:
        raise NotFound(f"session {ask.session} is gone, its answer could not be recorded")
    n, complete, length = turn
    answer = ask.answer
    if complete is None or (not complete and (answer.complete or len(answer.text.encode()) > length)):
        db.execute(
            "UPDATE turns SET ended = :now, complete = :complete, attempts = :attempts, answer = :text,"
            " input_tokens = :input_tokens, output_tokens = :output_tokens, finish_reason = :finish_reason,"
            " model = CASE :model WHEN '' THEN model ELSE :model END WHERE n = :n",
            {"now": now, "n": n, **msgspec.structs.asdict(answer)},
        )
        db.execute("UPDATE sessions SET updated = ? WHERE id = ?", (now, ask.session))
    return TurnRecorded(ask.turn)


def newest(db: sqlite3.Connection, ask: ListSessions) -> list[SessionSummary]:
    """The sessions used last, the latest first."""
    ids = db.execute(
        "SELECT id FROM sessions WHERE (:uid = -1 OR uid = :uid) ORDER BY last_turn DESC LIMIT :limit",
        {"uid": ask.uid, "limit": bounded(ask.limit)},
    ).fetchall()
    return [summary_of(db, session) for (session,) in ids]


def show(db: sqlite3.Connection, ask: SessionId) -> SessionDetail:
    """A session with all its messages; a system prompt stands where it came into force."""
    summary = summary_of(db, _find(db, ask.id, ask.uid))
    return SessionDetail(
        id=summary.id,
        created=summary.created,
        updated=summary.updated,
        turns=summary.turns,
        model=summary.model,
        title=summary.title,
        messages=list(_stored_messages(db, summary.id)),
    )


def delete(db: sqlite3.Connection, ask: SessionId) -> SessionSummary:
    """Deletes a session with all its messages; what it was."""
    summary = summary_of(db, _find(db, ask.id, ask.uid))
    db.execute("DELETE FROM sessions WHERE id = ?", (summary.id,))
    return summary


def summary_of(db: sqlite3.Connection, session: str) -> SessionSummary:
    """The session with this very id."""
    created, updated, title, turns = db.execute(
        "SELECT created, updated, title, (SELECT count(*) FROM turns WHERE session = sessions.id)"
        " FROM sessions WHERE id = ?",
        (session,),
    ).fetchone()
    model = _last_model(db, session)
    return SessionSummary(id=session, created=created, updated=updated, turns=turns, model=model, title=title)


def bounded(limit: int) -> int:
    """`limit` as SQLite takes it: a client may ask for anything."""
    return min(max(limit, 0), _MOST)


def _session_for(db: sqlite3.Connection, ask: BeginTurn, now: str) -> str:
    """The id of the session that the new turn belongs to."""
    if ask.session:
        return _find(db, ask.session, ask.uid)
    if ask.last:
        last = db.execute(
            "SELECT id FROM sessions WHERE (:uid = -1 OR uid = :uid) ORDER BY last_turn DESC LIMIT 1",
            {"uid": ask.uid},
        ).fetchone()
        if last is not None:
            return str(last[0])
    return _new_session(db, ask, now)


def _new_session(db: sqlite3.Connection, ask: BeginTurn, now: str) -> str:
    title = " ".join(ask.prompt[: 4 * _TITLE].split())[:_TITLE]
    for session in candidates(ask.turn):
        made = db.execute(
            "INSERT INTO sessions (id, uid, last_turn, created, updated, title) VALUES (?, ?, 0, ?, ?, ?)"
            " ON CONFLICT (id) DO NOTHING",
            (session, ask.uid, now, now, title),
        )
        if made.rowcount:
            return session
    raise AssertionError(f"every id for turn {ask.turn} is taken")


def _add_turn(db: sqlite3.Connection, ask: BeginTurn, session: str, now: str) -> int:
    system = None if ask.system == _system(db, session) else ask.system
    n = db.execute(
        "INSERT INTO turns (turn, session, began, model, system, prompt) VALUES (?, ?, ?, ?, ?, ?)",
        (ask.turn, session, now, ask.model, system, ask.prompt),
    ).lastrowid
    assert n is not None
    db.execute("UPDATE sessions SET updated = ?, last_turn = ? WHERE id = ?", (now, n, session))
    return n


def _find(db: sqlite3.Connection, wanted: str, uid: int) -> str:
    """The session of `uid` with the id `wanted`, or the only one whose id begins so."""
    wanted = wanted.strip().lower()
    scope = {"wanted": wanted, "end": wanted + "\N{DELETE}", "uid": uid}
    fits = db.execute(
        "SELECT id FROM sessions WHERE id >= :wanted AND id < :end AND (:uid = -1 OR uid = :uid)"
        " ORDER BY id LIMIT 2",
        scope,
    ).fetchall()
    if not wanted or not fits:
        raise NotFound(f'there is no session "{wanted}"', advice=_ADVICE)
    if len(fits) > 1 and fits[0][0] != wanted:
        raise UsageError(
            f'more than one session begins with "{wanted}"', advice=f"give more of its id; {_ADVICE}"
        )
    return str(fits[0][0])


def _conversation(db: sqlite3.Connection, session: str, n: int) -> Conversation:
    """Everything up to the prompt of turn `n`, and that turn's answer if it is complete."""
    return Conversation(
        session=session,
        system=_system(db, session, n),
        messages=_messages(db, session, n),
        model=_last_model(db, session, n),
        answer=_complete_answer(db, n),
    )


def _messages(db: sqlite3.Connection, session: str, n: int) -> list[Message]:
    """The messages before turn `n` and its prompt, as providers want them: roles alternate, none is blank.

    A turn cut short counts with the part that came. Where nothing came, its prompt and the next are joined by
    a blank line into one message: some providers and chat templates refuse two of the same role in a row.
    """
    messages: list[Message] = []
    prompts: list[str] = []
    turns = db.execute(
        "SELECT prompt, CASE WHEN n < :n THEN answer END FROM turns WHERE session = :session AND n <= :n"
        " ORDER BY n",
        {"session": session, "n": n},
    )
    for prompt, answer in turns:
        prompts.append(prompt)
        if answer and not answer.isspace():
            messages += [Message("user", "\n\n".join(prompts)), Message("assistant", answer)]
            prompts = []
    return [*messages, Message("user", "\n\n".join(prompts))]


def _complete_answer(db: sqlite3.Connection, n: int) -> TurnAnswer | None:
    row = db.execute(
        "SELECT answer, model, finish_reason, input_tokens, output_tokens, attempts FROM turns"
        " WHERE n = ? AND complete = 1",
        (n,),
    ).fetchone()
    if row is None:
        return None
    text, model, finish_reason, input_tokens, output_tokens, attempts = row
    return TurnAnswer(
        text=text,
        model=model,
        finish_reason=finish_reason,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        attempts=attempts,
    )


def _system(db: sqlite3.Connection, session: str, n: int | None = None) -> str:
    """The system prompt in force at turn `n`, by default the newest; "" for none."""
    row = db.execute(
        "SELECT system FROM turns WHERE session = ? AND system IS NOT NULL"
        " AND n <= ifnull(?, n) ORDER BY n DESC LIMIT 1",
        (session, n),
    ).fetchone()
    return row[0] if row else ""


def _last_model(db: sqlite3.Connection, session: str, n: int | None = None) -> str:
    """The model that answered last in `session`, up to turn `n`; "" if none did."""
    row = db.execute(
        "SELECT model FROM turns WHERE session = ? AND complete IS NOT NULL AND model <> ''"
        " AND n <= ifnull(?, n) ORDER BY n DESC LIMIT 1",
        (session, n),
    ).fetchone()
    return row[0] if row else ""


def _stored_messages(db: sqlite3.Connection, session: str) -> Iterator[StoredMessage]:
    turns = db.execute(
        "SELECT began, ended, complete, system, prompt, answer FROM turns WHERE session = ? ORDER BY n",
        (session,),
    )
    for began, ended, complete, system, prompt, answer in turns:
        if system is not None:
            yield StoredMessage(role="system", content=system, time=began)
        yield StoredMessage(role="user", content=prompt, time=began)
        if answer is not None:
            yield StoredMessage(role="assistant", content=answer, time=ended, complete=bool(complete))
