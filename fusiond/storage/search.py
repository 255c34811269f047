"""Searching conversations without keeping others waiting."""

from __future__ import annotations

import sqlite3

from fusiond.protocol.sessions import SearchSessions, SessionSummary
from fusiond.storage.sessions import bounded, summary_of

_PAGE = 50  # sessions


class Search:
    """A search for sessions in which every word occurs, in any message and any case; page by page.

    A page is small so that the caller can let others have their turn in between.
    """

    def __init__(self, ask: SearchSessions) -> None:
        self._words = set(ask.words.casefold().split())
        self._uid = ask.uid
        self._limit = bounded(ask.limit)
        self._after = 0
        self._found: list[tuple[int, SessionSummary]] = []

    def page(self, db: sqlite3.Connection) -> bool:
        """Searches the next sessions, in the order in which they were made; False once there are no more."""
        rows = db.execute(
            "SELECT n, id, last_turn FROM sessions WHERE n > :after AND (:uid = -1 OR uid = :uid)"
            " ORDER BY n LIMIT :page",
            {"after": self._after, "uid": self._uid, "page": _PAGE},
        ).fetchall()
        for n, session, last_turn in rows:
            self._after = n
            if self._matches(db, session):
                self._found.append((last_turn, summary_of(db, session)))
        return bool(rows)

    def found(self) -> list[SessionSummary]:
        """The matches so far, the one used last first."""
        ordered = sorted(self._found, key=lambda match: match[0], reverse=True)
        return [summary for _, summary in ordered[: self._limit]]

    def _matches(self, db: sqlite3.Connection, session: str) -> bool:
        missing = self._words
        for texts in db.execute("SELECT system, prompt, answer FROM turns WHERE session = ?", (session,)):
            folded = "\n".join(text for text in texts if text).casefold()
            missing = {word for word in missing if word not in folded}
            if not missing:
                return True
        return not missing
