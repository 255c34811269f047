"""The agent over the real store and a model that says what the test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
import pytest

from fusiond.actors.agent import Agent, AgentConfig, create
from fusiond.actors.base import Port
from fusiond.actors.store import Store, StoreConfig
from fusiond.errors import (
    BadRequest,
    Busy,
    FusionError,
    Interrupted,
    KeyRefused,
    NotFound,
    ProviderDown,
    StorageError,
    UsageError,
)
from fusiond.protocol.chat import (
    ChatChunk,
    ChatReply,
    ChatRequest,
    Completion,
    CompletionChunk,
    CompletionRequest,
    Message,
    Usage,
)
from fusiond.protocol.sessions import SessionDetail, SessionId

ME = 1000
MOST_ASKS = 4

encode = msgspec.msgpack.encode
broken = Interrupted("the actor died")
Step = str | CompletionChunk | Completion | FusionError | Literal["hang"]
HANG = cast(Step, object())
"""The model says nothing more and does not end."""


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

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for step in self.steps:
            if step is HANG:
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

    @property
    def asks(self) -> list[CompletionRequest]:
        return [answer.ask for answer in self.answers]

    def recorded(self, session: str) -> list[tuple[str, str, bool]]:
        body = self.store.verbs["sessions.show"](Asked(encode(SessionId(session)), uid=ME))
        assert isinstance(body, bytes)
        detail = msgspec.msgpack.decode(body, type=SessionDetail)
        return [(message.role, message.content, message.complete) for message in detail.messages]


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    store = Store(StoreConfig(database=str(tmp_path / "fusion.db")))
    await store.setup(cast(Port, None))
    yield Tree(store)
    await store.teardown()


@pytest.fixture
async def agent(tree: Tree) -> AsyncIterator[Agent]:
    agent = create(encode(AgentConfig(most_asks=MOST_ASKS)))
    await agent.setup(tree)
    yield agent
    await agent.teardown()


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


# --- a conversation ----------------------------------------------------------------------------------------


async def test_an_answer_is_streamed_recorded_and_returned(agent: Agent, tree: Tree) -> None:
    tree.scripts = [["Par", "is", "."]]
    call = asked("What is the capital of France?")
    reply = await chat(agent, call)
    assert reply == ChatReply(
        text="Paris.",
        model="test/model",
        session=reply.session,
        finish_reason="stop",
        usage=Usage(3, None),
        attempts=1,
    )
    assert call.chunks == [
        ChatChunk("Par", session=reply.session),
        ChatChunk("is"),
        ChatChunk("."),
    ]
    assert tree.recorded(reply.session) == [
        ("user", "What is the capital of France?", True),
        ("assistant", "Paris.", True),
    ]


async def test_the_prompt_is_recorded_before_a_model_is_asked(agent: Agent, tree: Tree) -> None:
    tree.scripts = [["one"], ["two"]]
    session = (await chat(agent, asked("first"))).session
    seen: list[tuple[str, str, bool]] = []
    tree.when_asked = lambda: seen.extend(tree.recorded(session))
    await chat(agent, asked("second", id=2, session=session))
    assert seen[-1] == ("user", "second", True)


async def test_the_answer_is_recorded_before_the_reply(agent: Agent, tree: Tree) -> None:
    tree.scripts = [["yes"]]
    call, held = asked(), asyncio.Event()

    async def hold() -> None:
        await held.wait()

    tree.before["sessions.finish"] = hold
    task = asyncio.ensure_future(chat(agent, call))
    await call.emitted.wait()
    done, _ = await asyncio.wait({task}, timeout=0.05)
    assert not done
    held.set()
    assert (await task).text == "yes"


async def test_an_answer_that_cannot_be_recorded_is_no_reply(agent: Agent, tree: Tree) -> None:
    tree.scripts = [["yes"]]

    async def full() -> None:
        raise StorageError("the disk is full")

    tree.before["sessions.finish"] = full
    with pytest.raises(StorageError):
        await chat(agent, asked())


async def test_a_conversation_remembers(agent: Agent, tree: Tree) -> None:
    tree.scripts = [["Hello Ada."], ["Ada."]]
    session = (await chat(agent, asked("I am Ada."))).session
    reply = await chat(agent, asked("Who am I?", id=2, last=True))
    assert reply.session == session
    assert tree.asks[1].messages == [
        Message("user", "I am Ada."),
        Message("assistant", "Hello Ada."),
        Message("user", "Who am I?"),
    ]


async def test_a_system_prompt_stays_with_the_session_until_it_is_replaced(agent: Agent, tree: Tree) -> None:
    tree.scripts = [["a"], ["b"], ["c"], ["d"]]
    session = (await chat(agent, asked(id=1, system="be brief"))).session
    for id, system in [(2, None), (3, "be long"), (4, "")]:
        await chat(agent, asked(id=id, session=session, system=system))
    assert [[m.content for m in ask.messages if m.role == "system"] for ask in tree.asks] == [
        ["be brief"],
        ["be brief"],
        ["be long"],
        [],
    ]
    assert tree.asks[1].messages[0].role == "system"


async def test_the_model_is_the_one_named_or_else_the_sessions_last_or_else_the_default(
    agent: Agent, tree: Tree
) -> None:
    tree.scripts = [["a"], ["b"], ["c"]]
    session = (await chat(agent, asked(id=1))).session
    await chat(agent, asked(id=2, session=session))
    await chat(agent, asked(id=3, session=session, model="openai/other"))
    assert [ask.model for ask in tree.asks] == ["", "test/model", "openai/other"]


async def test_options_schema_and_deadline_reach_the_model(agent: Agent, tree: Tree) -> None:
    tree.scripts = [["{}"]]
    call = asked(options={"temperature": 0}, schema={"type": "object"})
    call.remaining = 12.5
    await chat(agent, call)
    assert tree.asks[0].options == {"temperature": 0}
    assert tree.asks[0].schema == {"type": "object"}
    assert (tree.answers[0].timeout, tree.asks[0].stream) == (12.5, True)


async def test_an_answer_that_came_in_no_pieces_is_told_in_one(agent: Agent, tree: Tree) -> None:
    tree.scripts = [[Completion(text="whole", model="m")]]
    call = asked()
    reply = await chat(agent, call)
    assert (call.texts, reply.text) == (["whole"], "whole")


async def test_a_model_asked_several_times_inside_one_request_is_counted(agent: Agent, tree: Tree) -> None:
    tree.scripts = [["yes", Completion(text="yes", model="m", asked=3)]]
    assert (await chat(agent, asked())).attempts == 3


# --- streams that break --------------------------------------------------------------------------------------


@pytest.mark.parametrize("breaks_while_read", [True, False])
async def test_a_broken_stream_is_continued_from_the_text_so_far(
    agent: Agent, tree: Tree, breaks_while_read: bool
) -> None:
    tree.breaks_while_read = breaks_while_read
    tree.scripts = [["one ", "two ", broken], ["three ", broken], ["four"]]
    call = asked()
    reply = await chat(agent, call)
    assert call.texts == ["one ", "two ", "three ", "four"]
    assert [chunk.asked for chunk in call.chunks] == [1, 1, 2, 3]
    assert [ask.prefix for ask in tree.asks] == ["", "one two ", "one two three "]
    assert (reply.text, reply.attempts) == ("one two three four", 3)
    assert tree.recorded(reply.session)[-1] == ("assistant", "one two three four", True)


async def test_a_model_that_begins_anew_voids_what_came_before(agent: Agent, tree: Tree) -> None:
    tree.scripts = [["one ", broken], [CompletionChunk("uno ", reset=True), broken], ["due"]]
    call = asked()
    reply = await chat(agent, call)
    assert [(chunk.text, chunk.reset) for chunk in call.chunks] == [
        ("one ", False),
        ("uno ", True),
        ("due", False),
    ]
    assert [ask.prefix for ask in tree.asks] == ["", "one ", "uno "]
    assert reply.text == "uno due"


async def test_a_stream_that_keeps_breaking_is_given_up_and_what_came_is_kept(
    agent: Agent, tree: Tree
) -> None:
    tree.scripts = [["x", broken] for _ in range(MOST_ASKS)]
    call = asked()
    with pytest.raises(Busy, match=f"broke off {MOST_ASKS} times") as given_up:
        await chat(agent, call)
    assert not isinstance(given_up.value, Interrupted)  # the asker need not try the same again
    assert tree.recorded(call.chunks[0].session)[-1] == ("assistant", "x" * MOST_ASKS, False)


async def test_an_asker_that_holds_a_part_is_told_only_the_rest(agent: Agent, tree: Tree) -> None:
    tree.scripts = [["three"]]
    call = asked(prefix="one two ", asked=2)
    reply = await chat(agent, call)
    assert call.chunks == [ChatChunk("three", session=reply.session, asked=3)]
    assert tree.asks[0].prefix == "one two "
    assert (reply.text, reply.attempts) == ("one two three", 3)
    assert tree.recorded(reply.session)[-1] == ("assistant", "one two three", True)


async def test_asks_of_agents_that_died_count_too(agent: Agent, tree: Tree) -> None:
    tree.scripts = [["yes"]]
    assert (await chat(agent, asked(attempt=3))).attempts == 3


# --- the same request again ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "told"),
    [("", [("one two", False)]), ("one ", [("two", False)]), ("one two", []), ("uno", [("one two", True)])],
)
async def test_a_turn_that_is_answered_is_told_again_and_not_asked_again(
    agent: Agent, tree: Tree, held: str, told: list[tuple[str, bool]]
) -> None:
    tree.scripts = [["one ", broken], ["two"]]
    first = await chat(agent, asked())
    call = asked(prefix=held, asked=1)
    assert await chat(agent, call) == first
    assert [(chunk.text, chunk.reset) for chunk in call.chunks] == told
    assert [chunk.session for chunk in call.chunks] == [first.session for _ in told]
    assert len(tree.recorded(first.session)) == 2


async def test_a_turn_that_was_cut_short_is_asked_again_without_saying_the_prompt_twice(
    agent: Agent, tree: Tree
) -> None:
    tree.scripts = [["one ", HANG], ["two"]]
    first = asked()
    await cut_off(agent, first)
    reply = await chat(agent, asked(prefix="one ", asked=1))
    assert reply.session == first.chunks[0].session
    assert tree.asks[1].messages == [Message("user", "hello")]
    assert tree.recorded(reply.session) == [("user", "hello", True), ("assistant", "one two", True)]


# --- answers cut short -----------------------------------------------------------------------------------------


async def test_what_came_is_kept_when_the_person_leaves(agent: Agent, tree: Tree) -> None:
    tree.scripts = [["one ", HANG]]
    call = asked()
    await cut_off(agent, call)
    assert tree.answers[0].cancelled
    assert tree.recorded(call.chunks[0].session) == [("user", "hello", True), ("assistant", "one ", False)]


async def test_what_came_is_kept_even_if_the_store_is_slow_and_the_agent_is_on_its_way_down(
    agent: Agent, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusiond.actors.agent._PARTING", 0.01)
    tree.scripts = [["one ", HANG]]
    call, held = asked(), asyncio.Event()

    async def hold() -> None:
        await held.wait()

    tree.before["sessions.finish"] = hold
    await cut_off(agent, call)
    session = call.chunks[0].session
    assert len(tree.recorded(session)) == 1
    asyncio.get_running_loop().call_soon(held.set)
    await agent.teardown()
    assert tree.recorded(session)[-1] == ("assistant", "one ", False)


async def test_an_answer_that_is_whole_is_recorded_though_the_person_leaves_meanwhile(
    agent: Agent, tree: Tree
) -> None:
    tree.scripts = [["yes"]]
    call, reached, held = asked(), asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await held.wait()

    tree.before["sessions.finish"] = hold
    task = asyncio.ensure_future(chat(agent, call))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    held.set()
    await agent.teardown()
    assert tree.recorded(call.chunks[0].session)[-1] == ("assistant", "yes", True)


async def test_leaving_before_the_first_word_keeps_the_prompt_alone(agent: Agent, tree: Tree) -> None:
    tree.scripts = [["a"], [HANG]]
    session = (await chat(agent, asked("first"))).session
    begun = asyncio.Event()
    tree.when_asked = begun.set
    task = asyncio.ensure_future(chat(agent, asked("second", id=2, session=session)))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tree.recorded(session)[2:] == [("user", "second", True)]


@pytest.mark.parametrize("error", [ProviderDown("502"), KeyRefused("no")])
async def test_what_came_before_an_error_is_kept_and_the_error_is_told(
    agent: Agent, tree: Tree, error: FusionError
) -> None:
    tree.scripts = [["one ", error]]
    call = asked(model="openai/other")
    with pytest.raises(type(error)):
        await chat(agent, call)
    assert tree.recorded(call.chunks[0].session)[-1] == ("assistant", "one ", False)


async def test_an_error_is_told_even_if_what_came_cannot_be_recorded(agent: Agent, tree: Tree) -> None:
    async def full() -> None:
        raise StorageError("the disk is full")

    tree.before["sessions.finish"] = full
    tree.scripts = [["one ", ProviderDown("502")]]
    with pytest.raises(ProviderDown):
        await chat(agent, asked())


async def test_a_conversation_goes_on_after_an_answer_cut_short(agent: Agent, tree: Tree) -> None:
    tree.scripts = [["one ", HANG], ["yes"]]
    call = asked("count")
    await cut_off(agent, call)
    await chat(agent, asked("go on", id=2, last=True))
    assert tree.asks[1].messages == [
        Message("user", "count"),
        Message("assistant", "one "),
        Message("user", "go on"),
    ]


# --- requests that are refused ---------------------------------------------------------------------------------


async def test_an_unknown_session_is_refused_and_no_model_is_asked(agent: Agent, tree: Tree) -> None:
    with pytest.raises(NotFound, match='no session "nosuch"'):
        await chat(agent, asked(session="nosuch"))
    assert not tree.answers


async def test_an_unknown_agent_is_refused(agent: Agent) -> None:
    with pytest.raises(NotFound, match='no agent "nosuch"'):
        await chat(agent, asked(agent="nosuch"))


@pytest.mark.parametrize("prompt", ["", " \n"])
async def test_an_empty_message_is_refused(agent: Agent, prompt: str) -> None:
    with pytest.raises(UsageError, match="the message is empty"):
        await chat(agent, asked(prompt))


async def test_a_request_that_makes_no_sense_is_refused(agent: Agent) -> None:
    with pytest.raises(BadRequest, match="chat does not understand"):
        await chat(agent, Asked(b"\xc1"))
