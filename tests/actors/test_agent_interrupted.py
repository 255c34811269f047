"""Streams that break, requests that come again, persons who leave: nothing is lost or said twice."""

from __future__ import annotations

import asyncio

import pytest

from fusiond.actors.agent import Agent
from fusiond.errors import (
    Busy,
    FusionError,
    Interrupted,
    KeyRefused,
    ProviderDown,
    StorageError,
)
from fusiond.protocol.chat import (
    ChatChunk,
    CompletionChunk,
    Message,
)
from tests.actors.conversing import HANG, MOST_ASKS, Tree, asked, broken, chat, cut_off

# --- streams that break ------------------------------------------------------------------------------


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


# --- the same request again --------------------------------------------------------------------------


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


async def test_another_request_for_the_same_turn_goes_on_with_it(agent: Agent, tree: Tree) -> None:
    tree.scripts = [["one ", HANG], ["two"]]
    first = asked(id=1, turn="a turn")
    await cut_off(agent, first)
    session = first.chunks[0].session
    reply = await chat(agent, asked(id=2, turn="a turn", session=session, prefix="one ", asked=1))
    assert await chat(agent, asked(id=3, turn="a turn", prefix="one two", asked=2)) == reply
    assert tree.recorded(session) == [("user", "hello", True), ("assistant", "one two", True)]


# --- answers cut short -------------------------------------------------------------------------------


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
