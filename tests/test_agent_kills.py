"""A run of an agent while processes are killed at chosen moments: it goes on from its last finished step, no finished
call is made again, and a call whose outcome is not known is told to the model as such."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusionctl.client import Client
from fusiond.protocol.agents import RunEvent, RunReply
from tests.scripted_model import ScriptedModel, act, call, final
from tests.tree import Tree, running

TOOLS = '''
import time
from pathlib import Path
from fusiond.tools import tool

HERE = Path(__file__).parent

@tool
def note(run: int, n: int, wait: bool = False) -> str:
    """Notes a number."""
    with (HERE / f"notes.{run}").open("a") as file:
        file.write(f"{n}\\n")
    if wait:
        (HERE / f"began.{run}.{n}").touch()
        while not (HERE / f"go.{run}.{n}").exists():
            time.sleep(0.002)
    return f"noted {n}"
'''
CONFIG = """
[supervisor]
heartbeat_timeout_ms = 600
[tools]
modules = ["noting"]
"""
STEPS = 4
VICTIMS = ["agent.0", "tools", "llm.0", "router", "store", "supervisor"]
numbers = count(1)


@dataclass
class World:
    """One tree for all examples."""

    tree: Tree
    model: ScriptedModel
    client: Client
    kills: dict[tuple[int, str], str] = field(default_factory=dict)

    async def kill(self, victim: str) -> None:
        health = await self.client.health()
        pids = {actor.name: actor.pid for actor in health.actors} | {"supervisor": health.supervisor.pid}
        if pid := pids[victim]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with closing(ScriptedModel()) as model:
        yield model


@pytest.fixture(scope="module")
def tree(model: ScriptedModel) -> Iterator[Tree]:
    with running(model.configuration) as tree:
        (tree.home / "noting.py").write_text(TOOLS)
        tree.configure(model.configuration + CONFIG)
        tree.ok("reload")
        yield tree


async def outlive(
    tree: Tree, model: ScriptedModel, agent: str, kills: dict[tuple[int, str], str]
) -> RunReply:
    """Has a run of STEPS notes go on through `kills`: who is killed while step n is thought about, or carried out."""
    run = next(numbers)
    task = f"take notes {run}"
    waits = {n for n, phase in kills if phase == "acting"}
    notes = [act("note", run=run, n=n, wait=n in waits) for n in range(1, STEPS + 1)]
    model.script[task] = [*notes, final("all noted")]
    model.script[f"lead {task}"] = [call("general", task), final("all noted")]
    loop = asyncio.get_running_loop()
    async with (
        Client(tree.home, notice=lambda _: None) as client,
        Client(tree.home, notice=lambda _: None) as hand,
    ):
        world = World(tree, model, hand)
        left = dict(kills)

        def before(body: dict[str, Any], turn: int) -> None:
            if body["messages"][-1 - 2 * turn]["content"] == task and (
                victim := left.pop((turn + 1, "thinking"), "")
            ):
                asyncio.run_coroutine_threadsafe(world.kill(victim), loop).result(20)

        model.before = before
        hands = [asyncio.ensure_future(_at_work(world, run, n, kills[n, "acting"])) for n in waits]
        try:
            asked = client.run(agent, task if agent == "general" else f"lead {task}")
            reply = await asyncio.wait_for(asked, 60)
        finally:
            model.before = None
            for each in hands:
                each.cancel()
        detail = await client.run_detail(reply.run if agent == "general" else f"{reply.run}.1")
    made = (tree.home / f"notes.{run}").read_text().split()
    assert made == sorted(set(made), key=made.index), f"made twice: {made}"
    assert [step.n for step in detail.trace] == list(range(1, STEPS + 1))
    for step in detail.trace:
        assert step.observation is not None
        if step.kind == "ok":
            assert step.observation == f"noted {step.n}"
            assert str(step.n) in made
        else:
            assert "not known" in step.observation
            assert any(phase == "acting" for n, phase in kills if n == step.n) or kills
    return reply


async def _at_work(world: World, run: int, n: int, victim: str) -> None:
    """Kills as soon as the tool is at work on step n."""
    began = world.tree.home / f"began.{run}.{n}"
    while not began.exists():  # noqa: ASYNC110 — another process makes it
        await asyncio.sleep(0.005)
    await world.kill(victim)
    Path(world.tree.home, f"go.{run}.{n}").touch()  # noqa: ASYNC240


@pytest.mark.parametrize("phase", ["thinking", "acting"])
@pytest.mark.parametrize("victim", VICTIMS)
async def test_a_run_goes_on_whoever_dies_in_the_middle_of_a_step(
    tree: Tree, model: ScriptedModel, victim: str, phase: str
) -> None:
    reply = await outlive(tree, model, "general", {(2, phase): victim})
    assert (reply.answer, reply.steps) == ("all noted", STEPS)


async def test_a_run_of_a_supervisor_goes_on_inside_the_agent_that_it_called(
    tree: Tree, model: ScriptedModel
) -> None:
    kills = {(1, "thinking"): "agent.0", (2, "acting"): "supervisor", (4, "acting"): "agent.0"}
    reply = await outlive(tree, model, "supervisor", kills)
    assert (reply.answer, reply.steps) == ("all noted", 1)


KILLS = st.dictionaries(
    st.tuples(st.integers(1, STEPS), st.sampled_from(["thinking", "acting"])),
    st.sampled_from(VICTIMS),
    max_size=4,
)


def test_a_run_goes_on_through_any_deaths(tree: Tree, model: ScriptedModel) -> None:
    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(KILLS)
    def property_holds(kills: dict[tuple[int, str], str]) -> None:
        reply = asyncio.run(outlive(tree, model, "general", kills))
        assert (reply.answer, reply.steps) == ("all noted", STEPS)

    property_holds()


async def test_deaths_at_any_instant_do_no_harm(tree: Tree, model: ScriptedModel) -> None:
    """Not in the middle of something held open, but whenever it happens to be: while recording, between two steps."""
    run = next(numbers)
    task = f"quick notes {run}"
    many = 30
    model.script[task] = [*(act("note", run=run, n=n) for n in range(1, many + 1)), final("noted")]
    seen: list[RunEvent] = []
    async with (
        Client(tree.home, notice=lambda _: None) as client,
        Client(tree.home, notice=lambda _: None) as hand,
    ):
        world = World(tree, model, hand)
        asked = asyncio.ensure_future(client.run("general", task, max_steps=many + 5, on_event=seen.append))
        for number, victim in enumerate(["agent.0", "store", "tools", "router", "llm.0"] * 3):
            await asyncio.sleep(0.013 * (number % 5))
            if asked.done():
                break
            await world.kill(victim)
        reply = await asyncio.wait_for(asked, 60)
        detail = await client.run_detail(reply.run)
    assert reply.answer == "noted"
    made = [int(n) for n in (tree.home / f"notes.{run}").read_text().split()]
    assert len(made) == len(set(made))
    assert [step.n for step in detail.trace] == list(range(1, many + 1))
    done = {step.n for step in detail.trace if step.kind == "ok"}
    assert done <= set(made)
    told = [(event.step.n, event.step.state) for event in seen if event.step is not None]
    assert len(told) == len(set(told))
