"""Whatever comes, however often and in whatever order: the record is that of the messages taken once each."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from fusiond.errors import NotFound
from fusiond.protocol.sessions import BeginTurn, FinishTurn, ListSessions, SessionId, TurnAnswer
from fusiond.storage import sessions
from fusiond.storage.database import Database

NOW = "2026-11-22T13:00:00.000Z"
TURNS = ["t1", "t2", "t3", "t4"]

turns = st.sampled_from(TURNS)
begins = st.builds(
    lambda turn, last: BeginTurn(turn=turn, prompt=f"prompt of {turn}", last=last), turns, st.booleans()
)
answers = st.builds(
    lambda text, complete: TurnAnswer(text=text, model="m", complete=complete),
    st.text(alphabet="ab", max_size=4),
    st.booleans(),
)
finishes = st.tuples(turns, answers)
said = st.lists(st.one_of(begins, finishes), max_size=25)


@dataclass
class Expected:
    """What the record must be, kept in plain Python."""

    session_of: dict[str, str] = field(default_factory=dict)
    answer_of: dict[str, TurnAnswer] = field(default_factory=dict)

    def finish(self, turn: str, answer: TurnAnswer) -> None:
        old = self.answer_of.get(turn)
        longer = old is not None and len(answer.text) > len(old.text)
        if old is None or (not old.complete and (answer.complete or longer)):
            self.answer_of[turn] = answer

    def messages(self) -> dict[str, list[tuple[str, str, bool]]]:
        recorded: dict[str, list[tuple[str, str, bool]]] = {}
        for turn, session in self.session_of.items():
            messages = recorded.setdefault(session, [])
            messages.append(("user", f"prompt of {turn}", True))
            if answer := self.answer_of.get(turn):
                messages.append(("assistant", answer.text, answer.complete))
        return recorded


def recorded(db: sqlite3.Connection) -> dict[str, list[tuple[str, str, bool]]]:
    return {
        summary.id: [
            (message.role, message.content, message.complete)
            for message in sessions.show(db, SessionId(summary.id)).messages
        ]
        for summary in sessions.newest(db, ListSessions())
    }


def play(db: sqlite3.Connection, sayings: list[BeginTurn | tuple[str, TurnAnswer]]) -> Expected:
    expected = Expected()
    for saying in sayings:
        if isinstance(saying, BeginTurn):
            conversation = sessions.begin(db, saying, NOW)
            assert expected.session_of.setdefault(saying.turn, conversation.session) == conversation.session
            roles = [message.role for message in conversation.messages]
            assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
            answer = expected.answer_of.get(saying.turn)
            assert conversation.answer == (answer if answer and answer.complete else None)
        else:
            turn, answer = saying
            session = expected.session_of.get(turn, "")
            with suppress(NotFound):
                sessions.finish(db, FinishTurn(turn=turn, session=session, answer=answer), NOW)
            if session:
                expected.finish(turn, answer)
    return expected


@given(said)
def test_the_record_is_that_of_the_first_begin_and_the_best_answer(
    sayings: list[BeginTurn | tuple[str, TurnAnswer]],
) -> None:
    with closing(Database("")) as database:
        db = database.read(lambda connection: connection)
        expected = play(db, sayings)
        assert recorded(db) == expected.messages()


@given(said)
def test_saying_everything_twice_changes_nothing(sayings: list[BeginTurn | tuple[str, TurnAnswer]]) -> None:
    with closing(Database("")) as once, closing(Database("")) as twice:
        first, second = (database.read(lambda connection: connection) for database in (once, twice))
        play(first, sayings)
        play(second, [saying for saying in sayings for _ in range(2)])
        assert recorded(first) == recorded(second)
