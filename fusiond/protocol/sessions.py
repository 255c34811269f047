"""Conversations on disk: the bodies of the store's verbs.

| verb | body | reply | public |
|---|---|---|---|
| `sessions.begin` | BeginTurn | Conversation | no |
| `sessions.finish` | FinishTurn | TurnRecorded | no |
| `sessions.list` | ListSessions | list[SessionSummary] | yes |
| `sessions.show` | SessionId | SessionDetail | yes |
| `sessions.delete` | SessionId | SessionSummary | yes |
| `sessions.search` | SearchSessions | list[SessionSummary] | yes |

Every verb is idempotent: a turn is named by the request that made it, so the same request sent again changes nothing.
Times are ISO 8601 in UTC with milliseconds.
"""

from __future__ import annotations

import msgspec

from fusiond.protocol.chat import Message, Role


class BeginTurn(msgspec.Struct, frozen=True, kw_only=True):
    """Records what the person said, before any model is asked.

    `turn`: hex id of the chat request. `session`: "" makes a new one, with an id derived from `turn`.
    `last`: the session of `uid` that was used last; a new one if there is none. An unknown session is `not_found`.
    """

    turn: str
    prompt: str
    session: str = ""
    last: bool = False
    system: str | None = None
    model: str = ""
    uid: int = -1


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """What a model needs to answer: the session, its system prompt, and all messages up to this turn's prompt.

    `answer`: the recorded answer if this turn had been finished before, complete, else None.
    `model`: the model that the session was last used with, "" for none.
    """

    session: str
    system: str
    messages: list[Message]
    model: str = ""
    answer: TurnAnswer | None = None


class TurnAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as recorded. `complete` is false for one cut short."""

    text: str
    model: str
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    attempts: int = 1
    complete: bool = True


class FinishTurn(msgspec.Struct, frozen=True, kw_only=True):
    """Records the answer of `turn`. A complete one is never replaced; one cut short is, by a longer or complete one."""

    turn: str
    session: str
    answer: TurnAnswer


class TurnRecorded(msgspec.Struct, frozen=True):
    """The turn is committed."""

    turn: str


class ListSessions(msgspec.Struct, frozen=True):
    """The newest `limit` sessions."""

    limit: int = 100
    uid: int = -1


class SessionId(msgspec.Struct, frozen=True):
    """One session by its id, or by a beginning of it that fits only one."""

    id: str
    uid: int = -1


class SearchSessions(msgspec.Struct, frozen=True):
    """Sessions in which every one of `words` occurs."""

    words: str
    limit: int = 100
    uid: int = -1


class SessionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A session in a list. `turns` counts the prompts; `title` is the beginning of the first."""

    id: str
    created: str
    updated: str
    turns: int
    model: str
    title: str


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message as recorded. `complete` is false for an answer cut short."""

    role: Role
    content: str
    time: str
    complete: bool = True


class SessionDetail(SessionSummary, frozen=True, kw_only=True):
    """A session with all its messages."""

    messages: list[StoredMessage]
