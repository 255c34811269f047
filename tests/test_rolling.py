"""`restart` while people ask: one after the other, drained, and nobody is refused."""

from __future__ import annotations

import asyncio

from fusionctl.client import Client
from tests.tree import Tree

ASKERS = 8
PATIENCE = 4.0  # seconds; less than the grace after which what hangs in a draining actor is asked again


async def test_a_restart_of_everything_refuses_nobody_and_keeps_nobody_waiting(
    tree: Tree, scripted_server: str
) -> None:
    tree.configure(
        f'model = "test/x"\n[providers.test]\nbase_url = "{scripted_server}"\n'
        "[actors.llm]\nreplicas = 2\n[actors.agent]\nreplicas = 2\n"
    )
    tree.start()
    over, begun = asyncio.Event(), asyncio.Event()
    answers = 0

    async def ask() -> None:
        nonlocal answers
        while not over.is_set():
            async with asyncio.timeout(PATIENCE):
                await fusion.chat("hello")
            answers += 1
            if answers > ASKERS:
                begun.set()

    # one that is refused ends all
    async with Client(tree.home, autostart=False) as fusion, asyncio.TaskGroup() as askers:
        for _ in range(ASKERS):
            askers.create_task(ask())
        await begun.wait()
        before = await fusion.health()
        after = await fusion.restart()
        over.set()
    old = {actor.name: actor.pid for actor in before.actors}
    assert all(old[actor.name] != actor.pid for actor in after.actors)
    assert after.status == "healthy"
    assert answers > 10 * ASKERS
