"""A batch while processes are killed and stopped at random: one result for every line, nothing lost, nothing doubled.

A run is repeated with `FUSION_TEST_SEED=N pytest tests/test_batch_soak.py`; the seed is in the test's output.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
from contextlib import closing

import pytest

from fusionctl.client import Client
from tests.fusionctl.counting_model import CountingModel
from tests.harm import harm
from tests.tree import Tree

CONFIG = """
[supervisor]
heartbeat_interval_ms = 100
heartbeat_timeout_ms = 400
shutdown_grace_s = 1
"""
CONCURRENCY = 32


@pytest.mark.parametrize(
    ("items", "delay"),
    [(1000, 0.2), pytest.param(20_000, 0.4, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])],
)
async def test_every_line_has_one_result_whatever_is_killed(tree: Tree, items: int, delay: float) -> None:
    seed = int(os.environ.get("FUSION_TEST_SEED") or secrets.randbits(32))
    print(f"FUSION_TEST_SEED={seed}")
    prompts = [f"question {number}" for number in range(items)]
    (tree.home / "prompts.txt").write_text("\n".join(prompts))
    with closing(CountingModel(delay)) as model:
        tree.configure(model.configuration + CONFIG)
        tree.start()
        batch = tree.popen("batch", "prompts.txt", "-o", "out.jsonl", "--concurrency", str(CONCURRENCY))
        async with Client(tree.home) as client:
            harmed, (_, err) = await asyncio.gather(
                harm(client, random.Random(seed), lambda: batch.poll() is None),
                asyncio.to_thread(batch.communicate),
            )
    assert batch.returncode == 0, err
    rows = [json.loads(line) for line in (tree.home / "out.jsonl").read_text().splitlines()]
    answers = [row["response"]["body"]["choices"][0]["message"]["content"] for row in rows]
    assert answers == [f"You said: {prompt}" for prompt in prompts]
    (job,) = tree.json("batches", "list")
    again = sum(count - 1 for count in model.asked.values())
    print(f"{harmed} faults; {again} of {items} asked again; {job['asked_twice']} said to be")
    assert job["asked_twice"] >= sum(count > 1 for count in model.asked.values())
    assert again <= harmed * CONCURRENCY
