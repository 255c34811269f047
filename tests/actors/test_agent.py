"""Conversations: what is asked of the model, what the person is told, what is recorded."""

from __future__ import annotations

import asyncio

import pytest

from fusiond.actors.agent import Agent
from fusiond.errors import (
    BadRequest,
    NotFound,
    StorageError,
    UsageError,
)
from fusiond.protocol.chat import (
    ChatChunk,
    ChatReply,
    Completion,
    Message,
    Usage,
)
from tests.actors.conversing import Asked, Tree, asked, chat


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


# --- requests that are refused -----------------------------------------------------------------------


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


async def test_a_turn_with_a_name_too_long_is_refused(agent: Agent) -> None:
    with pytest.raises(BadRequest, match="the turn's name has 65 characters"):
        await chat(agent, asked(turn="x" * 65))


async def test_a_request_that_makes_no_sense_is_refused(agent: Agent) -> None:
    with pytest.raises(BadRequest, match="chat does not understand"):
        await chat(agent, Asked(b"\xc1"))
