"""What a drill puts on the tree meanwhile, and the judgement of what became of it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, zip_longest
from typing import Any, Protocol

import msgspec

from fusionctl.asking import Question
from fusionctl.client import Client
from fusionctl.paper import Whole
from fusiond.errors import FusionError, NotFound
from fusiond.protocol.sessions import StoredMessage

_CONVERSATIONS, _CONVERSATIONS_LOCAL = (
    4,
    2,
)  # at once; the embedded model answers on this machine's processors
_TURNS = 8  # in one session: the longer it is, the more tokens each of its turns costs
_BETWEEN_TURNS = 0.1  # seconds
_BETWEEN_ECHOES = 0.02
_ECHOES = 2  # at once, for each service
_AFTER_FAILURE = 1.0


class RequestCounts(msgspec.Struct, frozen=True):
    """What became of the requests. `completed`: answered whole; `resumed`: of these, for how many a model was asked
    more than once. `lost`: no answer, no error, or not recorded as answered. `doubled`: recorded, or answered, twice.
    """

    completed: int = 0
    resumed: int = 0
    failed: int = 0
    lost: int = 0
    doubled: int = 0


class Load(Protocol):
    """Requests without end. `over`: no worker begins another. `broken_off`: what is open now is not lost.

    `failures`: what the failed ones were told.
    """

    over: bool
    broken_off: bool
    failures: list[str]

    async def begin(self) -> None:
        """The first request, before anything is broken. Raises what is wrong with asking at all."""

    def workers(self) -> list[Coroutine[Any, Any, None]]:
        """Each asks until it is `over`."""

    @property
    def completed(self) -> int:
        """How many requests have been answered so far."""

    async def settle(self) -> RequestCounts:
        """The judgement, once the workers have ended. Leaves nothing of the load in the tree."""


@dataclass
class Turn:
    """One question. Neither `answer` nor `failed`: still open."""

    prompt: str
    answer: str | None = None
    attempts: int = 0
    failed: bool = False


class Conversations:
    """A few conversations with the configured model; every turn is compared with the record afterwards."""

    def __init__(self, client: Client, home: str | None) -> None:
        self.over = self.broken_off = False
        self.failures: list[str] = []
        self._client, self._home = client, home
        self._mark = f"drill{secrets.token_hex(6)}"  # in every prompt: finds the sessions again
        self._numbers = count(1)
        self._turns: list[Turn] = []
        self._workers = _CONVERSATIONS

    async def begin(self) -> None:
        turn = self._next()
        answer = await Question(self._client, Whole(silent=True), self._home).ask(turn.prompt)
        turn.answer, turn.attempts = answer.text, answer.attempts
        if answer.model.startswith("local/"):
            self._workers = _CONVERSATIONS_LOCAL

    def workers(self) -> list[Coroutine[Any, Any, None]]:
        return [self._converse() for _ in range(self._workers)]

    @property
    def completed(self) -> int:
        return sum(turn.answer is not None for turn in self._turns)

    def _next(self) -> Turn:
        turn = Turn(f"{self._mark} {next(self._numbers)}: name a river, in one short sentence.")
        self._turns.append(turn)
        return turn

    async def _converse(self) -> None:
        while not self.over:
            try:
                await self._session()
            except FusionError:
                await asyncio.sleep(_AFTER_FAILURE)

    async def _session(self) -> None:
        """One session, until it is long enough. Raises what a turn failed with."""
        session = ""
        for _ in range(_TURNS):
            if self.over:
                return
            turn = self._next()
            stream = self._client.stream(turn.prompt, session=session)
            try:
                async for _ in stream:
                    pass
            except FusionError as error:
                turn.failed = True
                self.failures.append(str(error))
                raise
            turn.answer, turn.attempts = stream.answer.text, stream.answer.attempts
            session = stream.answer.session
            await asyncio.sleep(_BETWEEN_TURNS)

    async def settle(self) -> RequestCounts:
        record: list[Sequence[StoredMessage]] = []
        while found := await self._client.search_sessions(self._mark):
            for session in found:
                with suppress(NotFound):  # somebody else deleted it just now
                    record.append((await self._client.session(session.id)).messages)
                    await self._client.delete_session(session.id)
        turns = self._turns
        if self.broken_off:
            turns = [turn for turn in turns if turn.answer is not None or turn.failed]
        return judged(turns, record)


def judged(turns: Iterable[Turn], record: Iterable[Sequence[StoredMessage]]) -> RequestCounts:
    """What became of `turns`, by the messages of every session that was recorded."""
    recorded: dict[str, list[StoredMessage | None]] = {}
    for messages in record:
        for message, after in zip_longest(messages, messages[1:]):
            if message.role == "user":
                recorded.setdefault(message.content, []).append(after)
    completed = resumed = failed = lost = doubled = 0
    for turn in turns:
        answers = recorded.get(turn.prompt, [])
        completed += turn.answer is not None
        resumed += turn.attempts > 1
        failed += turn.failed
        lost += not turn.failed and not any(_records(answer, turn.answer) for answer in answers)
        doubled += len(answers) > 1
    return RequestCounts(completed, resumed, failed, lost, doubled)


def _records(message: StoredMessage | None, answer: str | None) -> bool:
    return (
        message is not None and message.role == "assistant" and message.complete and message.content == answer
    )


class Echoes:
    """Round trips to every service; each body is asked for once and must come back as it was."""

    def __init__(self, client: Client, services: Sequence[str]) -> None:
        self.over = self.broken_off = False
        self.failures: list[str] = []
        self.completed = 0
        self._client, self._services = client, services
        self._mark = secrets.token_bytes(8)
        self._asked = 0
        self._open: set[bytes] = set()
        self._doubled = 0

    async def begin(self) -> None:
        for service in self._services:
            await self._echo(service)

    def workers(self) -> list[Coroutine[Any, Any, None]]:
        return [self._ask(service) for service in self._services for _ in range(_ECHOES)]

    async def _ask(self, service: str) -> None:
        while not self.over:
            pause = _BETWEEN_ECHOES
            try:
                await self._echo(service)
            except FusionError:
                pause = _AFTER_FAILURE
            await asyncio.sleep(pause)

    async def _echo(self, service: str) -> None:
        self._asked += 1
        body = self._mark + self._asked.to_bytes(8, "little")
        self._open.add(body)
        try:
            self.take(await self._client.ping(service, body))
        except FusionError as error:
            self._open.discard(body)
            self.failures.append(str(error))
            raise

    def take(self, echo: bytes) -> None:
        """Counts what came back: a body that is not open has been answered before, and the one asked for is lost."""
        if echo in self._open:
            self._open.remove(echo)
            self.completed += 1
        elif echo.startswith(self._mark):
            self._doubled += 1

    async def settle(self) -> RequestCounts:
        lost = 0 if self.broken_off else len(self._open)
        return RequestCounts(self.completed, 0, len(self.failures), lost, self._doubled)
