"""Processes killed and stopped at random while many people converse: every answer whole, every turn recorded once.

A run is repeated with `FUSION_TEST_SEED=N pytest tests/test_random_kills.py`; the seed is in the test's output.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from contextlib import closing
from itertools import pairwise

import pytest

from fusionctl.client import Client
from fusiond.protocol.sessions import StoredMessage
from tests.fusionctl.gated_model import GatedModel
from tests.harm import harm
from tests.tree import Tree

CONFIG = """
[supervisor]
heartbeat_interval_ms = 100
heartbeat_timeout_ms = 400
shutdown_grace_s = 1
[actors.agent]
replicas = 2
[actors.llm]
replicas = 2
"""
PATIENT, IMPATIENT = 6, 2
"""People who wait for their answers, and people who break off now and then."""


async def converse(
    client: Client, who: int, until: float, chance: random.Random | None
) -> dict[str, str | None]:
    """One session, turn after turn. `chance`: breaks off by it. Returns the answer to each prompt, None if broken off.

    Where nothing has come of an answer the model is asked its question again, together with the next.
    """
    asked: dict[str, str | None] = {}
    loop, session = asyncio.get_running_loop(), ""
    while loop.time() < until:
        prompt = f"turn {len(asked)} of person {who}, with a few words more to make the answer last"
        stream = client.stream(prompt, session=session)
        patience = chance.uniform(0.02, 0.4) if chance is not None and session else None
        try:
            async with asyncio.timeout(patience):
                async for _ in stream:
                    pass
        except TimeoutError:
            asked[prompt] = None
            continue
        text = asked[prompt] = stream.answer.text
        assert text.startswith("You said: ")
        assert text.endswith(prompt)
        assert chance is not None or len(text) == len(f"You said: {prompt}")
        session = stream.answer.session
    return asked


@pytest.mark.parametrize(
    "seconds",
    [15, pytest.param(600, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
async def test_nothing_is_lost_whatever_is_killed(tree: Tree, seconds: int) -> None:
    seed = int(os.environ.get("FUSION_TEST_SEED") or secrets.randbits(32))
    print(f"FUSION_TEST_SEED={seed}")
    chance = random.Random(seed)
    with closing(GatedModel()) as model:
        model.pace = 0.01
        tree.configure(model.configuration + CONFIG)
        tree.start()
        async with Client(tree.home) as client:
            loop = asyncio.get_running_loop()
            until = loop.time() + seconds
            people = [
                converse(client, who, until, random.Random(chance.random()) if who < IMPATIENT else None)
                for who in range(IMPATIENT + PATIENT)
            ]
            async with asyncio.TaskGroup() as group:
                harming = group.create_task(harm(client, chance, lambda: loop.time() < until))
                conversing = [group.create_task(one) for one in people]
            assert harming.result() > seconds
            sessions = await client.sessions()
            details = [await client.session(each.id) for each in sessions]
    recorded = {detail.messages[0].content: detail.messages for detail in details}
    assert len(recorded) == len(details) == len(people)
    for asked in (one.result() for one in conversing):
        check(recorded[next(iter(asked))], asked)


def check(messages: list[StoredMessage], asked: dict[str, str | None]) -> None:
    """Every question waited for is there once with its whole answer; others at most once, with a part of theirs."""
    found = [message.content for message in messages if message.role == "user"]
    assert len(found) == len(set(found))
    assert [prompt for prompt in asked if prompt in found] == found
    answers = {
        question.content: answer for question, answer in pairwise(messages) if answer.role == "assistant"
    }
    for prompt, text in asked.items():
        if text is not None:
            assert answers[prompt].content == text
            assert answers[prompt].complete
        elif prompt in answers and answers[prompt].complete:
            assert answers[prompt].content.endswith(prompt)
