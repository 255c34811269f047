from __future__ import annotations

import sqlite3
from itertools import count

import pytest

from fusiond.errors import Denied, NotFound, UsageError
from fusiond.protocol.chat import Message
from fusiond.protocol.sessions import (
    BeginTurn,
    Conversation,
    FinishTurn,
    ListSessions,
    SearchSessions,
    SessionId,
    SessionSummary,
    TurnAnswer,
)
from fusiond.storage import sessions
from fusiond.storage.names import candidates
from fusiond.storage.search import Search

ME, SOMEBODY_ELSE = 1000, 1001
clock = (f"2026-11-22T13:00:{second:02}.000Z" for second in count())


def now() -> str:
    return next(clock)


@pytest.fixture(autouse=True)
def fresh_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "clock", (f"2026-11-22T13:00:{second:02}.000Z" for second in count()))


def begin(
    db: sqlite3.Connection,
    turn: str,
    prompt: str = "hello",
    *,
    session: str = "",
    last: bool = False,
    system: str | None = None,
    model: str = "",
    uid: int = ME,
) -> Conversation:
    ask = BeginTurn(turn=turn, prompt=prompt, session=session, last=last, system=system, model=model, uid=uid)
    return sessions.begin(db, ask, now())


def finish(
    db: sqlite3.Connection, turn: str, session: str, text: str, *, complete: bool = True, model: str = "m"
) -> None:
    answer = TurnAnswer(text=text, model=model, complete=complete)
    sessions.finish(db, FinishTurn(turn=turn, session=session, answer=answer), now())


def talk(db: sqlite3.Connection, turn: str, prompt: str, answer: str, *, session: str = "") -> str:
    """One whole turn; the session's id."""
    session = begin(db, turn, prompt, session=session).session
    finish(db, turn, session, answer)
    return session


def contents(db: sqlite3.Connection, session: str) -> list[tuple[str, str, bool]]:
    detail = sessions.show(db, SessionId(session))
    return [(message.role, message.content, message.complete) for message in detail.messages]


def search(db: sqlite3.Connection, words: str, *, uid: int = ME, limit: int = 100) -> list[str]:
    asked = Search(SearchSessions(words, limit, uid))
    while asked.page(db):
        pass
    return ids(asked.found())


def ids(summaries: list[SessionSummary]) -> list[str]:
    return [summary.id for summary in summaries]


# --- beginning ------------------------------------------------------------------------------------


def test_a_first_turn_makes_a_session(db: sqlite3.Connection) -> None:
    conversation = begin(db, "t1", "hello", system="be brief")
    assert conversation.messages == [Message("user", "hello")]
    assert (conversation.system, conversation.model, conversation.answer) == ("be brief", "", None)


def test_the_same_turn_again_changes_nothing(db: sqlite3.Connection) -> None:
    first = begin(db, "t1", "hello", system="be brief")
    assert begin(db, "t1", "hello", system="be brief") == first
    assert begin(db, "t1", "something else", system="be long", last=True) == first
    assert contents(db, first.session) == [("system", "be brief", True), ("user", "hello", True)]


def test_a_session_goes_on_with_all_its_messages(db: sqlite3.Connection) -> None:
    session = talk(db, "t1", "one", "first")
    assert begin(db, "t2", "two", session=session).messages == [
        Message("user", "one"),
        Message("assistant", "first"),
        Message("user", "two"),
    ]


def test_an_old_turn_begun_again_sees_only_what_came_before_it(db: sqlite3.Connection) -> None:
    session = begin(db, "t1", "one", system="old").session
    begin(db, "t2", "two", session=session, system="new")
    again = begin(db, "t1", "one")
    assert (again.messages, again.system) == ([Message("user", "one")], "old")


def test_an_answered_turn_begun_again_brings_its_answer(db: sqlite3.Connection) -> None:
    session = begin(db, "t1").session
    answer = TurnAnswer(
        text="yes", model="m", finish_reason="stop", input_tokens=3, output_tokens=None, attempts=2
    )
    sessions.finish(db, FinishTurn(turn="t1", session=session, answer=answer), now())
    again = begin(db, "t1")
    assert again.answer == answer
    assert again.messages == [Message("user", "hello")]


def test_an_answer_cut_short_is_not_taken_for_the_answer(db: sqlite3.Connection) -> None:
    session = begin(db, "t1").session
    finish(db, "t1", session, "ye", complete=False)
    assert begin(db, "t1").answer is None


def test_last_is_the_session_that_this_person_spoke_to_last(db: sqlite3.Connection) -> None:
    first = begin(db, "t1").session
    second = begin(db, "t2").session
    begin(db, "t3", uid=SOMEBODY_ELSE)
    assert begin(db, "t4", last=True).session == second
    begin(db, "t5", session=first)
    assert begin(db, "t6", last=True).session == first


def test_last_without_any_session_makes_a_new_one(db: sqlite3.Connection) -> None:
    begin(db, "t1", uid=SOMEBODY_ELSE)
    assert begin(db, "t2", last=True).messages == [Message("user", "hello")]


def test_a_session_named_is_preferred_to_the_last(db: sqlite3.Connection) -> None:
    first = begin(db, "t1").session
    begin(db, "t2")
    assert begin(db, "t3", session=first, last=True).session == first


def test_a_system_prompt_stays_until_it_is_replaced_or_emptied(db: sqlite3.Connection) -> None:
    session = begin(db, "t1", system="be brief").session
    assert begin(db, "t2", session=session).system == "be brief"
    assert begin(db, "t3", session=session, system="be long").system == "be long"
    assert begin(db, "t4", session=session).system == "be long"
    assert begin(db, "t5", session=session, system="").system == ""
    assert begin(db, "t6", session=session).system == ""


def test_a_system_prompt_said_again_is_recorded_once(db: sqlite3.Connection) -> None:
    session = begin(db, "t1", "one", system="be brief").session
    begin(db, "t2", "two", session=session, system="be brief")
    assert [role for role, _, _ in contents(db, session)] == ["system", "user", "user"]


def test_the_model_is_the_one_that_answered_last(db: sqlite3.Connection) -> None:
    session = begin(db, "t1").session
    finish(db, "t1", session, "yes", model="local/smollm2")
    begin(db, "t2", session=session, model="openai/typo")  # never answered
    assert begin(db, "t3", session=session).model == "local/smollm2"


def test_an_answer_cut_short_before_its_model_was_known_counts_for_the_model_asked(
    db: sqlite3.Connection,
) -> None:
    session = begin(db, "t1", model="openai/asked").session
    finish(db, "t1", session, "ye", complete=False, model="")
    assert begin(db, "t2", session=session).model == "openai/asked"


def test_a_taken_id_gives_way_to_a_longer_one(db: sqlite3.Connection) -> None:
    short, longer = (name for name, _ in zip(candidates("t1"), range(2), strict=False))
    db.execute("INSERT INTO sessions VALUES (99, ?, 0, 0, '', '', '')", (short,))
    assert begin(db, "t1").session == longer
    assert begin(db, "t1").session == longer


# --- finding --------------------------------------------------------------------------------------


def test_a_beginning_of_an_id_is_enough_if_it_fits_only_one(db: sqlite3.Connection) -> None:
    session = begin(db, "t1").session
    begin(db, "t2")
    assert sessions.show(db, SessionId(session[:3], ME)).id == session
    assert sessions.show(db, SessionId(f" {session.upper()} ", ME)).id == session


def test_a_beginning_that_fits_two_is_refused_but_a_whole_id_never(db: sqlite3.Connection) -> None:
    for n, name in enumerate(["bab", "babad", "babak"]):
        db.execute("INSERT INTO sessions VALUES (?, ?, ?, 0, '', '', '')", (n, name, ME))
    with pytest.raises(UsageError, match='more than one session begins with "ba"'):
        sessions.show(db, SessionId("ba", ME))
    assert sessions.show(db, SessionId("bab", ME)).id == "bab"


@pytest.mark.parametrize("wanted", ["nosuch", "", " ", "%", "_", "*", "ü", "'; DROP TABLE sessions"])
def test_what_does_not_exist_is_not_found(db: sqlite3.Connection, wanted: str) -> None:
    begin(db, "t1")
    with pytest.raises(NotFound):
        sessions.show(db, SessionId(wanted, ME))


def test_a_turn_in_an_unknown_session_is_refused_and_leaves_no_trace(db: sqlite3.Connection) -> None:
    with pytest.raises(NotFound):
        begin(db, "t1", session="nosuch")
    assert sessions.newest(db, ListSessions()) == []


def test_another_persons_session_does_not_exist(db: sqlite3.Connection) -> None:
    session = talk(db, "t1", "secret", "indeed")
    for attempt in (
        lambda: begin(db, "t2", session=session, uid=SOMEBODY_ELSE),
        lambda: sessions.show(db, SessionId(session, SOMEBODY_ELSE)),
        lambda: sessions.delete(db, SessionId(session, SOMEBODY_ELSE)),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert sessions.newest(db, ListSessions(uid=SOMEBODY_ELSE)) == []
    assert search(db, "secret", uid=SOMEBODY_ELSE) == []


def test_another_persons_turn_cannot_be_read_by_guessing_its_id(db: sqlite3.Connection) -> None:
    talk(db, "t1", "secret", "indeed")
    with pytest.raises(Denied):
        begin(db, "t1", uid=SOMEBODY_ELSE)


def test_an_asker_inside_the_daemon_sees_all_sessions(db: sqlite3.Connection) -> None:
    mine = begin(db, "t1").session
    theirs = begin(db, "t2", uid=SOMEBODY_ELSE).session
    assert ids(sessions.newest(db, ListSessions(uid=-1))) == [theirs, mine]


# --- finishing ------------------------------------------------------------------------------------


def test_a_complete_answer_is_never_replaced(db: sqlite3.Connection) -> None:
    session = talk(db, "t1", "hello", "yes")
    finish(db, "t1", session, "a much longer answer", model="other")
    finish(db, "t1", session, "a much longer answer", complete=False)
    assert contents(db, session)[-1] == ("assistant", "yes", True)


def test_an_answer_cut_short_gives_way_to_a_longer_or_a_complete_one(db: sqlite3.Connection) -> None:
    session = begin(db, "t1").session
    for text, complete, kept in [
        ("one", False, "one"),
        ("on", False, "one"),
        ("two", False, "one"),
        ("one two", False, "one two"),
        ("no", True, "no"),
    ]:
        finish(db, "t1", session, text, complete=complete)
        assert contents(db, session)[-1][1] == kept


def test_what_is_not_recorded_does_not_touch_the_session(db: sqlite3.Connection) -> None:
    session = talk(db, "t1", "hello", "yes")
    before = sessions.show(db, SessionId(session))
    finish(db, "t1", session, "again")
    assert sessions.show(db, SessionId(session)) == before


def test_an_answer_to_a_deleted_session_is_not_found(db: sqlite3.Connection) -> None:
    session = begin(db, "t1").session
    sessions.delete(db, SessionId(session, ME))
    with pytest.raises(NotFound, match="is gone"):
        finish(db, "t1", session, "yes")
    assert db.execute("SELECT count(*) FROM turns").fetchone() == (0,)


# --- messages as providers want them --------------------------------------------------------------


def test_the_part_of_an_answer_that_came_stays_in_the_conversation(db: sqlite3.Connection) -> None:
    session = begin(db, "t1", "one").session
    finish(db, "t1", session, "fir", complete=False)
    assert begin(db, "t2", "two", session=session).messages == [
        Message("user", "one"),
        Message("assistant", "fir"),
        Message("user", "two"),
    ]


@pytest.mark.parametrize("blank", [None, "", " \n"])
def test_a_prompt_without_an_answer_is_joined_to_the_next(db: sqlite3.Connection, blank: str | None) -> None:
    session = begin(db, "t1", "one").session
    if blank is not None:
        finish(db, "t1", session, blank)
    begin(db, "t2", "two", session=session)
    assert begin(db, "t3", "three", session=session).messages == [Message("user", "one\n\ntwo\n\nthree")]


# --- lists, search, deletion ----------------------------------------------------------------------


def test_a_list_has_the_session_used_last_first(db: sqlite3.Connection) -> None:
    first, second, third = (begin(db, turn).session for turn in ("t1", "t2", "t3"))
    begin(db, "t4", session=first)
    assert ids(sessions.newest(db, ListSessions())) == [first, third, second]
    assert ids(sessions.newest(db, ListSessions(limit=2))) == [first, third]
    assert sessions.newest(db, ListSessions(limit=-1)) == []
    assert len(sessions.newest(db, ListSessions(limit=2**64 - 1))) == 3


def test_a_summary_counts_prompts_and_shows_the_beginning_of_the_first(db: sqlite3.Connection) -> None:
    session = talk(db, "t1", "  What is\n\n the capital " + "x" * 500, "Paris")
    begin(db, "t2", "And of Italy?", session=session)
    (summary,) = sessions.newest(db, ListSessions())
    assert summary.turns == 2
    assert summary.title.startswith("What is the capital xxx")
    assert len(summary.title) == 80
    assert summary.model == "m"
    assert (summary.created, summary.updated) == ("2026-11-22T13:00:00.000Z", "2026-11-22T13:00:02.000Z")


def test_a_session_shows_its_messages_in_order_with_their_times(db: sqlite3.Connection) -> None:
    session = talk(db, "t1", "one", "first")
    begin(db, "t2", "two", session=session)
    finish(db, "t2", session, "sec", complete=False)
    detail = sessions.show(db, SessionId(session))
    assert contents(db, session) == [
        ("user", "one", True),
        ("assistant", "first", True),
        ("user", "two", True),
        ("assistant", "sec", False),
    ]
    assert [message.time[17:19] for message in detail.messages] == ["00", "01", "02", "03"]


def test_a_search_finds_every_word_in_any_message_and_any_case(db: sqlite3.Connection) -> None:
    both = talk(db, "t1", "Der ÄRGER mit 100 % Zucker", "In Paris, snake_case")
    other = talk(db, "t2", "nothing", "in paris")
    assert search(db, "ärger PARIS") == [both]
    assert search(db, "paris") == [other, both]
    assert search(db, "paris", limit=1) == [other]
    assert search(db, "zucker london") == []
    assert search(db, "100 %") == [both]
    assert search(db, "snakeXcase") == []
    assert search(db, "_") == [both]


def test_a_search_goes_through_many_pages(db: sqlite3.Connection) -> None:
    made = [talk(db, f"t{n}", "odd" if n % 2 else "even", "yes") for n in range(175)]
    assert search(db, "odd") == made[1::2][::-1]


def test_a_deleted_session_leaves_nothing_behind(db: sqlite3.Connection) -> None:
    session = talk(db, "t1", "one", "first")
    kept = talk(db, "t2", "two", "second")
    assert sessions.delete(db, SessionId(session[:4], ME)).id == session
    with pytest.raises(NotFound):
        sessions.show(db, SessionId(session, ME))
    assert ids(sessions.newest(db, ListSessions())) == [kept]
    assert db.execute("SELECT count(*) FROM turns").fetchone() == (1,)


@pytest.mark.parametrize("text", ["naïve 日本語 🏳️‍🌈 \u202eRTL", "zero\0byte", "'\"\\ %_", "x" * 1_000_000])
def test_texts_come_back_as_they_were(db: sqlite3.Connection, text: str) -> None:
    session = talk(db, "t1", text, text)
    assert [content for _, content, _ in contents(db, session)] == [text, text]
    finish(db, "t1", session, text + "!", complete=False)
    assert begin(db, "t2", "on", session=session).messages[:2] == [
        Message("user", text),
        Message("assistant", text),
    ]
