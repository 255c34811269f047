"""`chat`, with a real daemon and a provider that speaks Anthropic's Messages API."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.llm_server import ANTHROPIC, ScriptedServer, serving
from tests.tree import Tree

KEY = "sk-ant-of-the-lab"


@pytest.fixture
def server(tree: Tree) -> Iterator[ScriptedServer]:
    """The provider that the daemon of `tree` asks: overloaded at first, then well."""
    with serving("529,well", ANTHROPIC) as server:
        tree.environment["LAB_KEY"] = KEY
        tree.configure(
            'model = "lab/claude-haiku-4-5"\n[providers.lab]\nkind = "anthropic"\n'
            f'base_url = "{server.url}"\napi_key_env = "LAB_KEY"\n'
        )
        yield server


def test_the_answer_as_json_has_its_figures(tree: Tree, server: ScriptedServer) -> None:
    answer = tree.json("chat", "count 5", "-s", "Be brief.", "-o", "temperature", "0.5")
    assert answer.pop("latency_ms") >= answer.pop("ttft_ms") > 0
    assert answer.pop("session")
    assert answer == {
        "text": "1 2 3 4 5",
        "model": "lab/claude-haiku-4-5",
        "finish_reason": "stop",
        "usage": {"input_tokens": 7, "output_tokens": 5},
        "attempts": 2,
    }
    body = server.bodies[-1]
    assert (body["model"], body["system"], body["temperature"]) == ("claude-haiku-4-5", "Be brief.", 0.5)
    assert server.headers[-1]["x-api-key"] == KEY


def test_a_conversation_goes_on(tree: Tree, server: ScriptedServer) -> None:
    tree.ok("chat", "first")
    assert tree.ok("chat", "second", "-c") == "You said: second\n"
    said = [message["content"] for message in server.bodies[-1]["messages"]]
    assert said == ["first", "You said: first", "second"]


def test_a_schema_reaches_the_provider_and_its_answer_is_json(tree: Tree, server: ScriptedServer) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    answer = tree.ok("chat", 'say {"name": "Ada"}', "--schema", json.dumps(schema))
    assert json.loads(answer) == {"name": "Ada"}
    wanted = {"type": "json_schema", "schema": {**schema, "additionalProperties": False}}
    assert server.bodies[-1]["output_config"] == {"format": wanted}
