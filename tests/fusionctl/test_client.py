"""The client for programs, with a real daemon."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from fusionctl.client import Client
from fusiond.errors import NotFound, Unreachable
from fusiond.protocol.control import Event
from tests.fusionctl.gated_model import GatedModel
from tests.tree import Tree, eventually


def client(tree: Tree, told: list[str] | None = None, *, autostart: bool = True) -> Client:
    return Client(tree.home, autostart=autostart, notice=(told if told is not None else []).append)


@pytest.fixture(autouse=True)
def environment(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that a client in this process starts inherits our environment."""
    for key in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "FUSION_MODEL"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("PYTHONPATH", tree.environment["PYTHONPATH"])


async def test_the_first_request_starts_the_daemon(tree: Tree) -> None:
    told: list[str] = []
    async with client(tree, told) as fusion:
        assert tree.processes() == []
        assert await fusion.ping("store", b"hello") == b"hello"
        assert (await fusion.health()).supervisor.pid == tree.supervisor
    assert told == [f"starting the daemon (pid {tree.supervisor})"]


async def test_health_never_starts_one(tree: Tree) -> None:
    async with client(tree) as fusion:
        with pytest.raises(Unreachable, match="fusionctl start"):
            await fusion.health()
    assert tree.processes() == []


async def test_without_autostart_nothing_is_started(tree: Tree) -> None:
    async with client(tree, autostart=False) as fusion:
        with pytest.raises(Unreachable):
            await fusion.ping("store")
    assert tree.processes() == []


async def test_events_come_as_they_happen_and_a_kill_is_measured(tree: Tree) -> None:
    tree.start()
    async with client(tree) as fusion:
        seen: list[Event] = []
        replaced = asyncio.Event()

        async def listen() -> None:
            async for event in fusion.events():
                seen.append(event)
                if (event.kind, event.actor) == ("replaced", "store"):
                    replaced.set()

        listening = asyncio.create_task(listen())
        while not seen:  # the subscription stands once something has come through it
            report = await fusion.kill("store")
            await asyncio.sleep(0)
        assert report.ready_ms is not None
        async with asyncio.timeout(10):
            await replaced.wait()
        listening.cancel()


async def test_an_error_of_the_daemon_is_raised_as_its_class(tree: Tree) -> None:
    tree.start()
    async with client(tree) as fusion:
        with pytest.raises(NotFound, match="did you mean store"):
            await fusion.kill("stoer")
        with pytest.raises(NotFound):
            await fusion.session("nosuch")
        assert await fusion.sessions() == []


async def test_many_requests_at_once_share_one_start(tree: Tree) -> None:
    told: list[str] = []
    async with client(tree, told) as fusion:
        echoes = await asyncio.gather(*(fusion.ping("store", b"%d" % number) for number in range(50)))
    assert echoes == [b"%d" % number for number in range(50)]
    assert len(told) == 1


async def test_a_daemon_that_was_killed_is_started_again_by_the_next_request(tree: Tree) -> None:
    told: list[str] = []
    async with client(tree, told) as fusion:
        before = (await fusion.restart("store")).supervisor.pid
        os.kill(before, signal.SIGKILL)
        eventually(lambda: tree.processes() == [])
        assert await fusion.ping("store", b"again") == b"again"
        after = (await fusion.health()).supervisor.pid
        assert after != before
        assert told[-1] == f"the daemon (pid {before}) has ended: starting the daemon (pid {after})"


async def test_a_request_outlives_the_daemon_that_holds_it(tree: Tree) -> None:
    """The store is stopped, so that the request is under way when the daemon dies."""
    tree.start()
    async with client(tree) as fusion:
        health = await fusion.health()
        store = next(actor.pid for actor in health.actors if actor.name == "store")
        assert store is not None
        os.kill(health.supervisor.pid, signal.SIGSTOP)  # or it would replace the store
        os.kill(store, signal.SIGSTOP)
        waiting = asyncio.create_task(fusion.ping("store", b"still here"))
        await asyncio.sleep(0.1)
        os.kill(health.supervisor.pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            assert await waiting == b"still here"


async def test_a_client_that_waits_replaces_a_supervisor_that_stops(tree: Tree) -> None:
    tree.start()
    told: list[str] = []
    async with client(tree, told) as fusion:
        health = await fusion.health()
        before = health.supervisor.pid
        store = next(actor.pid for actor in health.actors if actor.name == "store")
        assert store is not None
        os.kill(before, signal.SIGSTOP)
        os.kill(store, signal.SIGSTOP)
        async with asyncio.timeout(20):
            assert await fusion.ping("store", b"still here") == b"still here"
        assert (await fusion.health()).supervisor.pid != before
    assert f"the supervisor (pid {before}) is stopped by a signal: killing it and starting afresh" in told


async def test_a_program_that_leaves_a_stream_takes_its_question_back(tree: Tree, model: GatedModel) -> None:
    model.gate.clear()
    async with client(tree) as fusion:
        async for chunk in fusion.stream("one two three"):
            assert chunk.text.startswith("You")
            break
        assert await asyncio.to_thread(model.left.wait, 10)


async def test_a_client_that_is_closed_takes_back_what_is_open(tree: Tree, model: GatedModel) -> None:
    model.gate.clear()
    async with client(tree) as fusion:
        stream = fusion.stream("one two three")
        chunks = stream.__aiter__()
        assert (await anext(chunks)).text.startswith("You")
    assert await asyncio.to_thread(model.left.wait, 10)


async def test_many_conversations_at_once_do_not_mix(tree: Tree, model: GatedModel) -> None:
    async with client(tree) as fusion:
        answers = await asyncio.gather(*(fusion.chat(f"number {number}") for number in range(20)))
    assert [answer.text for answer in answers] == [f"You said: number {number}" for number in range(20)]
    assert len({answer.session for answer in answers}) == 20


async def test_without_autostart_a_request_under_way_says_that_the_daemon_has_ended(tree: Tree) -> None:
    tree.start()
    async with client(tree, autostart=False) as fusion:
        pid = (await fusion.health()).supervisor.pid
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: tree.processes() == [])
        with pytest.raises(Unreachable, match=f"pid {pid}.* has ended"):
            await fusion.ping("store")
