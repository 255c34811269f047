"""`sessions`: what is recorded of conversations."""

from __future__ import annotations

import json

import pytest

from tests.fusionctl.gated_model import GatedModel
from tests.tree import Tree, eventually


@pytest.fixture
def session(tree: Tree, model: GatedModel) -> str:
    """The id of a conversation about bears, beside one about foxes."""
    tree.ok("chat", "about foxes")
    return str(json.loads(tree.ok("chat", "about bears", "--json"))["session"])


def test_sessions_are_listed_the_newest_first(tree: Tree, session: str) -> None:
    first, second = tree.json("sessions", "list")
    assert set(first) == {"id", "created", "updated", "turns", "model", "title"}
    assert (first["id"], first["turns"], first["model"]) == (session, 1, "test/echo")
    assert (first["title"], second["title"]) == ("about bears", "about foxes")
    assert [line.split()[0] for line in tree.ok("sessions", "list").splitlines()] == [
        first["id"],
        second["id"],
    ]
    assert len(tree.ok("sessions", "list", "--limit", "1").splitlines()) == 1


def test_a_session_is_shown_with_its_messages(tree: Tree, session: str) -> None:
    shown = tree.json("sessions", "show", session)
    assert [(message["role"], message["content"]) for message in shown["messages"]] == [
        ("user", "about bears"),
        ("assistant", "You said: about bears"),
    ]
    assert set(shown["messages"][0]) == {"role", "content", "time", "complete"}
    assert "You said: about bears" in tree.ok("sessions", "show", session)


def test_a_session_is_exported_whole(tree: Tree, session: str) -> None:
    assert json.loads(tree.ok("sessions", "export", session)) == tree.json("sessions", "show", session)
    assert tree.ok("sessions", "export", session, "--format", "markdown").startswith("# about bears\n")


def test_sessions_are_found_by_their_words(tree: Tree, session: str) -> None:
    assert [found["id"] for found in tree.json("sessions", "search", "bears")] == [session]
    assert tree.json("sessions", "search", "bears", "foxes") == []


def test_a_deleted_session_is_gone(tree: Tree, session: str) -> None:
    assert tree.ok("sessions", "delete", session) == f"deleted: {session}\n"
    assert session not in tree.ok("sessions", "list")
    for command in ("show", "export", "delete"):
        done = tree.run("sessions", command, session)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1


def test_a_deleted_session_stands_nowhere_on_the_disk_any_more(tree: Tree, model: GatedModel) -> None:
    secret = "the combination is 4711-0815"
    session = json.loads(tree.ok("chat", secret, "--json"))["session"]
    tree.ok("chat", "something else")
    tree.ok("sessions", "delete", session)
    for file in (tree.home / "state").rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file


def test_conversations_that_are_too_old_are_deleted_by_themselves(tree: Tree, model: GatedModel) -> None:
    tree.ok("chat", "soon forgotten")
    tree.configure(f"{model.configuration}\n[store]\nkeep_days = 0.00001\n")  # a second
    tree.ok("reload")
    eventually(lambda: tree.ok("restart", "store") and tree.json("sessions", "list") == [])
