from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from fusiond.actors.agent import Agent, AgentConfig, create
from fusiond.actors.base import Port
from fusiond.actors.store import Store, StoreConfig
from tests.actors.conversing import MOST_ASKS, Tree, encode


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
