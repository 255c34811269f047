"""The embedded model drives a real run from end to end. It need not be clever, but all that it decides is valid."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.providers.embedded import models_dir
from tests.tree import Tree, running

TOOLS = '''\
from fusiond.tools import tool

@tool
def weather(city: str) -> str:
    """Tells the weather of a city."""
    return f"In {city} it is 21 degrees and sunny."
'''
CONFIG = """\
[tools]
modules = ["weather_tools"]
[agents.reporter]
description = "Tells the weather."
system_prompt = "You tell the weather. Use the tool weather."
tools = ["weather"]
max_steps = 3
"""


@pytest.fixture
def daemon() -> Iterator[Tree]:
    with running(CONFIG, {"weather_tools.py": TOOLS}, {"FUSION_MODELS": str(models_dir())}) as tree:
        yield tree


@pytest.mark.model
def test_every_step_of_the_embedded_model_is_a_decision_that_can_be_carried_out(daemon: Tree) -> None:
    done = daemon.run("agents", "run", "reporter", "What is the weather in Berlin?", "--json")
    assert done.returncode in (0, 5), done.stderr
    run = json.loads(daemon.ok("agents", "runs", "--json"))[0]["id"]
    steps = daemon.json("agents", "trace", run)["steps"]
    acted = [step for step in steps if step["action"]]
    assert acted
    for step in acted:
        assert step["action"]["tool"] == "weather"
        assert isinstance(step["action"]["input"]["city"], str)
    assert "21 degrees" in acted[0]["observation"]
    assert all("invalid" not in str(step) for step in steps)
