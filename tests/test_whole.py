"""The whole program with the real embedded model, as a person uses it: asked, killed, asked again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from fusionctl.client import Client
from tests.providers.embedded import models_dir
from tests.tree import Tree, eventually

pytestmark = pytest.mark.model

LONG = ["Write a long story about a river and a stone.", "-o", "max_tokens", "160"]


@pytest.fixture
def tree(tree: Tree) -> Tree:
    """As `tree`, with the model's file at hand."""
    tree.environment["FUSION_MODELS"] = str(models_dir())
    return tree


def ask(tree: Tree, *args: str) -> subprocess.Popen[str]:
    """A chat under way, past its first token."""
    chat = tree.popen("chat", *args, "--json")
    eventually(lambda: tree.actor("llm.0")["in_flight"] == 1)
    return chat


def answer(chat: subprocess.Popen[str]) -> dict[str, object]:
    out, err = chat.communicate(timeout=60)
    assert chat.returncode == 0, err
    found: dict[str, object] = json.loads(out)
    return found


def test_the_first_chat_on_a_fresh_machine_is_answered(tree: Tree) -> None:
    done = tree.run("chat", "What is the capital of France?")
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
    assert "starting the daemon" in done.stderr


def test_the_first_batch_on_a_fresh_machine_is_answered(tree: Tree, home: Path) -> None:
    """With no model yet: it is fetched, as for a chat."""
    tree.environment["FUSION_MODELS"] = str(home / "models")
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    body = {"messages": asked, "max_tokens": 20}
    lines = [
        {"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body} for id in ("a", "b")
    ]
    (home / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = tree.run("batch", "prompts.jsonl")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["error"] for line in done.stdout.splitlines()] == [None, None]
    assert "Paris" in done.stdout


def test_a_conversation_goes_on_after_the_daemon_was_restarted(tree: Tree) -> None:
    first = tree.json("chat", "My name is Ada. What is the capital of France?", "-o", "max_tokens", "30")
    tree.ok("stop")
    second = tree.json("chat", "-c", "And of Italy?", "-o", "max_tokens", "30")
    assert second["session"] == first["session"]
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    detail = tree.json("sessions", "show", first["session"])
    assert [message["role"] for message in detail["messages"]] == ["user", "assistant"] * 2


@pytest.mark.parametrize("name", ["llm.0", "agent.0", "router", "store", "forkserver"])
def test_an_answer_survives_the_death_of_the_process(tree: Tree, name: str) -> None:
    tree.start()
    chat = ask(tree, *LONG)
    os.kill(tree.actor(name)["pid"], signal.SIGKILL)
    reply = answer(chat)
    assert len(str(reply["text"])) > 200
    assert reply["attempts"] == (2 if name in ("llm.0", "agent.0") else 1)
    detail = tree.json("sessions", "show", str(reply["session"]))
    assert [message["content"] for message in detail["messages"]] == [LONG[0], reply["text"]]
    assert all(message["complete"] for message in detail["messages"])


CITIES = {
    "type": "object",
    "properties": {
        "cities": {
            "type": "array",
            "items": {"type": "string", "maxLength": 20},
            "minItems": 12,
            "maxItems": 12,
        }
    },
    "required": ["cities"],
    "additionalProperties": False,
}


def test_an_answer_keeps_to_its_schema(tree: Tree) -> None:
    done = tree.run("chat", "Name twelve cities.", "--schema", json.dumps(CITIES))
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["cities"]) == 12


async def test_an_answer_keeps_to_its_schema_when_its_process_dies_in_the_middle(tree: Tree) -> None:
    tree.start()
    async with Client(tree.home) as client:
        stream = client.stream("Name twelve cities.", schema=CITIES)
        begun, killed = "", 0
        async for chunk in stream:
            assert not chunk.reset, (begun, chunk)
            if len(stream.text) > 40 and not killed:
                begun, killed = stream.text, tree.actor("llm.0")["pid"]
                os.kill(killed, signal.SIGKILL)
    assert stream.answer.attempts == 2
    assert stream.answer.text.startswith(begun)
    assert len(json.loads(stream.answer.text)["cities"]) == 12


def test_an_answer_survives_three_deaths_in_a_row(tree: Tree) -> None:
    tree.start()
    chat = ask(tree, *LONG)
    for name in ("llm.0", "agent.0", "router"):
        assert tree.json("kill", name)["ready_ms"] is not None
    reply = answer(chat)
    assert len(str(reply["text"])) > 200
    assert reply["attempts"] in (2, 3)  # one that died before its first piece came is not counted


def test_an_answer_survives_the_death_of_the_supervisor(tree: Tree) -> None:
    tree.start()
    chat = ask(tree, *LONG)
    assert tree.supervisor
    os.kill(tree.supervisor, signal.SIGKILL)
    reply = answer(chat)
    assert len(str(reply["text"])) > 200
    detail = tree.json("sessions", "show", str(reply["session"]))
    assert [message["content"] for message in detail["messages"]] == [LONG[0], reply["text"]]


def test_a_standby_takes_over_and_is_replaced(tree: Tree) -> None:
    tree.start()
    standby = tree.actor("llm.standby")
    assert standby["state"] == "standby"
    report = tree.json("kill", "llm.0")
    assert report["new_pid"] == standby["pid"]
    eventually(lambda: tree.actor("llm.standby")["state"] == "standby")
    assert tree.actor("llm.standby")["pid"] != standby["pid"]


def test_the_model_listens_on_no_tcp_port(tree: Tree, home: Path) -> None:
    import psutil

    tree.start()
    for name in ("llm.0", "llm.standby"):
        assert psutil.Process(tree.actor(name)["pid"]).net_connections("inet") == []
    folder = home / "run" / "llm"
    assert folder.stat().st_mode & 0o777 == 0o700
