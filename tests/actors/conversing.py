"""What stands around an agent in its tests: the real store, and a model that says what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from fusiond.actors.agent import Agent
from fusiond.actors.store import Store
from fusiond.errors import (
    FusionError,
    Interrupted,
)
from fusiond.protocol.chat import (
    ChatChunk,
    ChatReply,
    ChatRequest,
    Completion,
    CompletionChunk,
    CompletionRequest,
    Usage,
)
from fusiond.protocol.sessions import SessionDetail, SessionId

ME = 1000
MOST_ASKS = 4

encode = msgspec.msgpack.encode
broken = Interrupted("the actor died")


class Hang:
    """The model says nothing more and does not end."""


HANG = Hang()
Step = str | CompletionChunk | Completion | FusionError | Hang


@dataclass
class Asked:
    """A call as the host would hand it over, and what was sent for it."""

    body: bytes
    verb: str = "chat"
    id: bytes = b"\1" * 16
    uid: int = ME
    attempt: int = 1
    remaining: float | None = None
    chunks: list[ChatChunk] = field(default_factory=list)
    emitted: asyncio.Event = field(default_factory=asyncio.Event)

    def emit(self, chunk: bytes) -> None:
        self.chunks.append(msgspec.msgpack.decode(chunk, type=ChatChunk))
        self.emitted.set()

    @property
    def texts(self) -> list[str]:
        return [chunk.text for chunk in self.chunks]


@dataclass
class Answering:
    """One streamed answer of the model, as the agent reads it."""

    ask: CompletionRequest
    steps: list[Step]
    timeout: float | None
    breaks_while_read: bool
    cancelled: bool = False
    attempt: int = 1

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for step in self.steps:
            if isinstance(step, Hang):
                await asyncio.Event().wait()
            elif isinstance(step, str):
                yield encode(CompletionChunk(step))
            elif isinstance(step, CompletionChunk):
                yield encode(step)
            elif isinstance(step, FusionError) and self.breaks_while_read:
                raise step

    async def result(self) -> bytes:
        text = self.ask.prefix
        for step in self.steps:
            if isinstance(step, FusionError):
                raise step
            if isinstance(step, Completion):
                return encode(step)
            if isinstance(step, CompletionChunk):
                text = step.text if step.reset else text + step.text
            elif isinstance(step, str):
                text += step
        return encode(Completion(text=text, model="test/model", finish_reason="stop", usage=Usage(3, None)))

    def cancel(self) -> None:
        self.cancelled = True


class Tree:
    """What stands around the agent: the store, and a model with a script for each time it is asked."""

    name = "agent.0"

    def __init__(self, store: Store) -> None:
        self.store = store
        self.scripts: list[list[Step]] = []
        self.answers: list[Answering] = []
        self.breaks_while_read = False
        self.when_asked: Callable[[], None] = lambda: None
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}

    async def request(
        self, service: str, verb: str, body: bytes, *, timeout: float | None = None, repeatable: bool = True
    ) -> bytes:
        assert (service, repeatable) == ("store", True)
        if verb in self.before:
            await self.before[verb]()
        outcome = self.store.verbs[verb](Asked(body, verb, uid=-1))
        return await outcome if isinstance(outcome, Awaitable) else outcome

    def stream(
        self, service: str, verb: str, body: bytes, *, timeout: float | None = None, repeatable: bool = True
    ) -> Answering:
        assert (service, verb, repeatable) == ("llm", "complete", True)
        self.when_asked()
        ask = msgspec.msgpack.decode(body, type=CompletionRequest)
        self.answers.append(Answering(ask, self.scripts.pop(0), timeout, self.breaks_while_read))
        return self.answers[-1]

    async def loading(self) -> None: ...

    def loaded(self) -> None: ...

    def fail(self, error: FusionError) -> None: ...

    @property
    def asks(self) -> list[CompletionRequest]:
        return [answer.ask for answer in self.answers]

    def recorded(self, session: str) -> list[tuple[str, str, bool]]:
        body = self.store.verbs["sessions.show"](Asked(encode(SessionId(session)), uid=ME))
        assert isinstance(body, bytes)
        detail = msgspec.msgpack.decode(body, type=SessionDetail)
        return [(message.role, message.content, message.complete) for message in detail.messages]


def asked(prompt: str = "hello", *, id: int = 1, attempt: int = 1, **more: Any) -> Asked:
    return Asked(encode(ChatRequest(prompt=prompt, **more)), id=bytes([id] * 16), attempt=attempt)


async def chat(agent: Agent, call: Asked) -> ChatReply:
    outcome = agent.verbs["chat"](call)
    assert isinstance(outcome, Awaitable)
    return msgspec.msgpack.decode(await outcome, type=ChatReply)


async def cut_off(agent: Agent, call: Asked) -> None:
    """The person leaves after the first piece of the answer."""
    task = asyncio.ensure_future(chat(agent, call))
    await call.emitted.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
