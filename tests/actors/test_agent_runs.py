"""Runs of agents by a real tree, with a model that says what the test wants said."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from fusionctl.client import Client
from fusiond.errors import BadRequest, NotFound, ProviderDown, UsageError
from fusiond.protocol.agents import RunEvent
from tests.actors.runs import recorded, run
from tests.scripted_model import ScriptedModel, act, call, choose, final
from tests.tree import Tree, eventually, running

CONFIG = """
[agents]
modules = ["crew", "broken"]
[agents.poet]
description = "Writes verses."
system_prompt = "You rhyme."
[agents.web]
description = "Ours, in the place of the built-in one."
"""
CREW = """
from fusiond.agents import AgentBuilder, AgentCollection
one = AgentBuilder("one").description("The first.").build()
crew = AgentCollection([AgentBuilder("two").max_steps(1).build(), AgentBuilder("poet").build()])
leader = AgentBuilder("router").build()
"""


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with closing(ScriptedModel()) as model:
        yield model


@pytest.fixture(scope="module")
def tree(model: ScriptedModel) -> Iterator[Tree]:
    with running(model.configuration) as tree:
        (tree.home / "crew.py").write_text(CREW)
        (tree.home / "broken.py").write_text("import nothing_of_the_kind")
        tree.configure(model.configuration + CONFIG)
        tree.ok("reload")
        yield tree


@pytest.fixture
async def client(tree: Tree) -> Any:
    async with Client(tree.home) as client:
        yield client


async def test_the_agents_of_all_sources_are_listed_and_what_is_wrong_with_some(client: Client) -> None:
    import msgspec

    from fusiond.protocol.agents import AgentInfo

    infos = msgspec.msgpack.decode(await client.request("agent", "list"), type=list[AgentInfo])
    sources = {info.name: info.source for info in infos if not info.problem}
    assert sources == {
        **dict.fromkeys(["file_ops", "shell", "general"], "built-in"),
        **dict.fromkeys(["poet", "web"], "configuration"),
        **dict.fromkeys(["one", "two"], "module crew"),
    }
    problems = {(info.name, info.problem) for info in infos if info.problem}
    assert ("poet", 'the name is taken: configuration has an agent "poet" too') in problems
    assert ("router", "the name is taken by a built-in agent") in problems
    assert any(name == "broken" and "ModuleNotFoundError" in why for name, why in problems)


async def test_an_answer_is_recorded_with_what_it_took(client: Client, model: ScriptedModel) -> None:
    model.script["a rose"] = [final("A rose is a rose.")]
    reply = await run(client, "poet", "a rose")
    assert (reply.answer, reply.finish_reason, reply.state) == ("A rose is a rose.", "final", "completed")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (7, 5)
    detail = await recorded(client, reply.run[:20])
    assert (detail.agent, detail.task, detail.answer, detail.state) == (
        "poet",
        "a rose",
        reply.answer,
        "completed",
    )
    assert "You rhyme." in model.requests[-1]["messages"][0]["content"]


async def test_a_run_asked_for_again_is_not_run_again(client: Client, model: ScriptedModel) -> None:
    model.script["once"] = [final("first"), final("second")]
    first = await run(client, "poet", "once", run="ab" * 16)
    asked = len(model.requests)
    assert await run(client, "poet", "once", run="ab" * 16) == first
    assert await run(client, "", run="ab" * 16) == first
    assert len(model.requests) == asked


async def test_a_router_hands_the_task_over_for_good(
    client: Client, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = "sing of the sea"
    said = model.script[task] = [choose("poet")]
    requests = len(model.requests)
    events: list[RunEvent] = []

    def answer_as_poet(body: dict[str, Any], turn: int) -> None:
        if "You rhyme." in body["messages"][0]["content"]:
            said[:] = [final("O sea!")]

    monkeypatch.setattr(model, "before", answer_as_poet)
    reply = await run(client, "router", task, on_event=events.append)
    assert (reply.answer, reply.answered_by, reply.steps) == ("O sea!", "poet", 1)
    assert sum(task in str(request) for request in model.requests[requests:]) == 2
    assert [event.step.thought for event in events if event.step] == ["it fits", "it fits"]
    child = await recorded(client, f"{reply.run}.1")
    assert (child.agent, child.parent, child.answer) == ("poet", reply.run, "O sea!")


async def test_a_supervisor_has_agents_work_and_combines(client: Client, model: ScriptedModel) -> None:
    model.script |= {
        "both": [
            call("poet", "verse one"),
            call("poet", "verse two"),
            call("web", "a picture"),
            final("a book"),
        ],
        "verse one": [final("la")],
        "verse two": [final("lo")],
        "a picture": [final("[]")],
    }
    reply = await run(client, "supervisor", "both")
    assert (reply.answer, reply.steps) == ("a book", 3)
    told = [message["content"] for message in model.requests[-1]["messages"]]
    assert [word for word in ("la", "lo", "[]") if any(f"\n{word}\n" in each for each in told)] == [
        "la",
        "lo",
        "[]",
    ]
    assert reply.usage.input_tokens == 7 * 7


async def test_all_that_a_supervisor_calls_draws_from_one_budget(
    client: Client, model: ScriptedModel
) -> None:
    model.script |= {"endless": [*(call("poet", f"part {n}") for n in range(50))]}
    reply = await run(client, "supervisor", "endless", max_steps=3)
    assert (reply.finish_reason, reply.steps) == ("step_limit", 3)


async def test_a_provider_that_takes_no_schema_is_asked_without(client: Client, model: ScriptedModel) -> None:
    model.script["plain"] = [final("x")]
    model.status["plain"] = 400
    with pytest.raises(BadRequest):  # without a schema it is refused as well: that was not the reason
        await run(client, "router", "plain")
    del model.status["plain"]


async def test_what_is_wrong_with_a_request_is_said_before_anything_is_recorded(client: Client) -> None:
    with pytest.raises(NotFound, match=r"did you mean poet\?"):
        await run(client, "peot", "x")
    with pytest.raises(UsageError, match="the task is empty"):
        await run(client, "poet", " ")
    with pytest.raises(NotFound, match="there is no run"):
        await run(client, "", run="cd" * 16)


async def test_a_run_that_failed_goes_on_when_it_is_resumed(client: Client, model: ScriptedModel) -> None:
    model.script["weather"] = [final("rain")]
    model.status["weather"] = 500
    with pytest.raises(ProviderDown):
        await run(client, "poet", "weather", run="ef" * 16)
    failed = await recorded(client, "ef" * 16)
    assert failed.state == "failed"
    assert "500" in failed.error
    del model.status["weather"]
    assert (await run(client, "", run="ef" * 16)).answer == "rain"


async def test_a_run_that_is_taken_back_is_recorded_as_cancelled(
    client: Client, model: ScriptedModel
) -> None:
    model.close_gate()
    asked = asyncio.ensure_future(run(client, "poet", "never", run="12" * 16))
    await asyncio.to_thread(model.waiting.wait)
    asked.cancel()
    await asyncio.wait({asked})
    model.gate.set()
    while (await recorded(client, "12" * 16)).state != "cancelled":  # noqa: ASYNC110 — another process records it
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("victim", ["agent.0", "llm.0", "router", "store", "tools"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_run_outlives_each_process(
    tree: Tree, client: Client, model: ScriptedModel, victim: str, how: signal.Signals
) -> None:
    task = f"outlive {victim} {how}"
    model.script |= {task: [call("poet", f"{task} 1"), call("poet", f"{task} 2"), final("both")]}
    model.script |= {f"{task} 1": [final("1")], f"{task} 2": [final("2")]}
    model.close_gate()
    asked = asyncio.ensure_future(run(client, "supervisor", task))
    for _ in range(3):
        await asyncio.to_thread(model.waiting.wait)
        model.waiting.clear()
        pid = tree.actor(victim)["pid"]
        os.kill(pid, how)
        await asyncio.to_thread(eventually, lambda pid=pid: tree.actor(victim)["pid"] not in (None, pid))
        model.gate.set()
        model.gate.clear()
    model.gate.set()
    reply = await asked
    assert (reply.answer, reply.steps) == ("both", 2)
    detail = await recorded(client, reply.run)
    assert [step.observation for step in detail.trace] == ["1", "2"]


async def test_a_run_outlives_the_supervisor(tree: Tree, client: Client, model: ScriptedModel) -> None:
    model.script |= {"all of it": [call("poet", "first part"), final("whole")], "first part": [final("part")]}
    model.close_gate()
    asked = asyncio.ensure_future(run(client, "supervisor", "all of it"))
    await asyncio.to_thread(model.waiting.wait)
    assert tree.supervisor
    os.kill(tree.supervisor, signal.SIGKILL)
    model.gate.set()
    reply = await asked
    assert (reply.answer, reply.steps) == ("whole", 1)


async def test_a_run_that_nobody_waits_for_when_the_daemon_dies_was_interrupted_and_can_be_resumed(
    tree: Tree, client: Client, model: ScriptedModel
) -> None:
    model.script["left alone"] = [final("after all")]
    model.close_gate()
    async with Client(tree.home, autostart=False) as gone:
        asked = asyncio.ensure_future(run(gone, "poet", "left alone", run="34" * 16))
        await asyncio.to_thread(model.waiting.wait)
        assert tree.supervisor
        os.kill(tree.supervisor, signal.SIGKILL)
        await asyncio.wait({asked})
        assert asked.exception() is not None
    model.gate.set()
    assert (await recorded(client, "34" * 16)).state == "interrupted"
    assert (await run(client, "", run="34" * 16)).answer == "after all"


async def test_many_runs_at_once_all_end(client: Client, model: ScriptedModel) -> None:
    for n in range(50):
        model.script |= {
            f"many {n}": [call("poet", f"one of {n}"), final(f"{n}")],
            f"one of {n}": [final("x")],
        }
    replies = await asyncio.gather(*(run(client, "supervisor", f"many {n}") for n in range(50)))
    assert [reply.answer for reply in replies] == [str(n) for n in range(50)]


async def test_a_tool_that_there_is_not_is_refused_in_words(client: Client, model: ScriptedModel) -> None:
    model.script["dig"] = [act("shovel", depth=3), final("no shovel")]
    reply = await run(client, "one", "dig")
    detail = await recorded(client, reply.run)
    assert [(step.kind, "there is no tool" in (step.observation or "")) for step in detail.trace] == [
        ("invalid", True)
    ]
