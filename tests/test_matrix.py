"""Every process × every fault × every moment of a conversation: the answer is whole, recorded once, nobody is left."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import pytest

from fusionctl.client import Client
from fusiond.protocol.control import ActorHealth, Fault, LastExit
from tests.fusionctl.gated_model import GatedModel
from tests.tree import Tree
from tests.tree import running as a_daemon

T = TypeVar("T")

ACTORS = ["router", "store", "llm.0", "agent.0", "forkserver"]
SIGNALS = ["KILL", "STOP", "SEGV", "TERM"]
FAULTS: list[Fault] = ["block", "hold-lock"]
Moment = Literal["idle", "before the first token", "in the middle of a stream", "while committing"]
MOMENTS: list[Moment] = ["idle", "before the first token", "in the middle of a stream", "while committing"]

SUPERVISION = """
[supervisor]
heartbeat_interval_ms = 100
heartbeat_timeout_ms = 400
shutdown_grace_s = 1
"""
_WITHIN = 20.0  # seconds for whatever is waited for; it takes a fraction of one


@pytest.fixture(scope="module")
def model() -> Iterator[GatedModel]:
    with closing(GatedModel()) as model:
        yield model


@pytest.fixture(scope="module", params=MOMENTS)
def moment(request: pytest.FixtureRequest) -> Moment:
    found: Moment = request.param
    return found


@pytest.fixture(scope="module")
def tree(model: GatedModel, moment: Moment) -> Iterator[Tree]:
    """One daemon for all faults of one moment."""
    with a_daemon(model.configuration + SUPERVISION) as tree:
        yield tree


@pytest.fixture
async def client(tree: Tree) -> AsyncIterator[Client]:
    async with Client(tree.home) as client:
        yield client


async def until(look: Callable[[], Awaitable[T]]) -> T:
    """What `look` finds as soon as it is true."""
    async with asyncio.timeout(_WITHIN):
        while True:
            if found := await look():
                return found
            await asyncio.sleep(0.005)


async def actor(client: Client, name: str) -> ActorHealth:
    return next(each for each in (await client.health()).actors if each.name == name)


async def busy(client: Client, name: str) -> bool:
    return (await actor(client, name)).in_flight > 0


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Nobody else commits to the database meanwhile."""
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield


@asynccontextmanager
async def conversation(
    tree: Tree, client: Client, model: GatedModel, moment: Moment, prompt: str
) -> AsyncIterator[asyncio.Task[str]]:
    """A question at this very moment of its life. It goes on when the body has done what it wants to do then."""
    model.close_gate(2 if moment == "in the middle of a stream" else 0)
    chat = asyncio.create_task(ask(client, prompt))
    if moment == "idle":
        chat.cancel()
        model.gate.set()
        yield chat
        return
    assert await asyncio.to_thread(model.waiting.wait, _WITHIN)
    if moment != "while committing":
        yield chat
        model.gate.set()
        return
    with locked(tree.home / "state" / "fusion.db"):
        model.gate.set()
        await until(lambda: busy(client, "store"))
        yield chat


async def ask(client: Client, prompt: str) -> str:
    return (await client.chat(prompt)).text


async def suffer(client: Client, name: str, pid: int, fault: str) -> None:
    """The fault is committed; that it is noticed and made good is not waited for, where a person would not."""
    if fault in SIGNALS:
        os.kill(pid, signal.Signals[f"SIG{fault}"])
    else:
        await client.kill(name, fault="block" if fault == "block" else "hold-lock")


async def made_good(client: Client, old: ActorHealth) -> LastExit | None:
    """How the actor's process ended, once another has taken its place."""
    found = await actor(client, old.name)
    return found.last_exit if found.state == "ready" and found.pid != old.pid else None


def recorded(tree: Tree, prompt: str) -> list[tuple[str, int]]:
    """The answers that the database has for this prompt, and whether each is complete."""
    with closing(sqlite3.connect(tree.home / "state" / "fusion.db")) as db:
        return db.execute("SELECT answer, complete FROM turns WHERE prompt = ?", (prompt,)).fetchall()


@pytest.mark.parametrize("fault", [*SIGNALS, *FAULTS])
@pytest.mark.parametrize("name", ACTORS)
async def test_an_actor_suffers_a_fault(
    tree: Tree, client: Client, model: GatedModel, moment: Moment, name: str, fault: str
) -> None:
    prompt = f"{name} suffers {fault} {moment}"
    before = await actor(client, name)
    assert before.pid is not None
    async with conversation(tree, client, model, moment, prompt) as chat:
        await suffer(client, name, before.pid, fault)
    text = await (ask(client, prompt) if moment == "idle" else chat)
    assert text == f"You said: {prompt}"
    assert recorded(tree, prompt) == [(text, 1)]
    end = await until(lambda: made_good(client, before))
    assert end is not None
    assert end.reason == ("hung" if fault in ("STOP", *FAULTS) else "signal")


@pytest.mark.parametrize("fault", SIGNALS)
async def test_the_supervisor_suffers_a_fault(
    tree: Tree, client: Client, model: GatedModel, moment: Moment, fault: str
) -> None:
    prompt = f"supervisor suffers {fault} {moment}"
    pid = (await client.health()).supervisor.pid
    async with conversation(tree, client, model, moment, prompt) as chat:
        os.kill(pid, signal.Signals[f"SIG{fault}"])
    text = await (ask(client, prompt) if moment == "idle" else chat)
    assert text == f"You said: {prompt}"
    assert recorded(tree, prompt) == [(text, 1)]
    tree.ok(
        "start"
    )  # its actors may have answered without a supervisor that is stopped: nobody has missed it yet
    assert tree.supervisor != pid
