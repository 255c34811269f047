"""`interactive`: conversations at a keyboard and from a pipe."""

from __future__ import annotations

import stat
from typing import Any

import pytest

from tests.fusionctl.gated_model import GatedModel
from tests.fusionctl.terminal import ended, terminal
from tests.tree import Tree, eventually


def type_line(child: Any, line: str) -> None:
    """Types at the next prompt: the line editor has to be there to take it."""
    child.expect_exact("\x1b[?2004h")
    child.send(f"{line}\r")


def test_each_line_of_a_pipe_is_a_message_of_one_conversation(tree: Tree, model: GatedModel) -> None:
    done = tree.run("interactive", "-s", "Be brief.", input="first\n\nsecond\n")
    assert (done.returncode, done.stdout) == (0, "You said: first\nYou said: second\n")
    said = [message["content"] for message in model.asked[-1]["messages"]]
    assert said == ["Be brief.", "first", "You said: first", "second"]


def test_no_lines_are_no_conversation(tree: Tree) -> None:
    done = tree.run("interactive", input="")
    assert (done.returncode, done.stdout) == (0, "")
    assert tree.processes() == []


def test_an_error_ends_a_conversation_from_a_pipe(tree: Tree, model: GatedModel) -> None:
    done = tree.run("interactive", input="first\nrefuse me\nthird\n")
    assert (done.returncode, done.stdout) == (77, "You said: first\n")


@pytest.fixture
def started(tree: Tree, model: GatedModel) -> Tree:
    tree.start()
    return tree


def test_a_conversation_remembers_and_ctrl_d_leaves(started: Tree, model: GatedModel) -> None:
    with terminal(started, "interactive") as child:
        child.expect_exact("/help says more")
        type_line(child, "first")
        child.expect_exact("You said: first\r\n")
        type_line(child, "second")
        child.expect_exact("You said: second\r\n")
        child.expect_exact("\x1b[?2004h")
        child.sendcontrol("d")
        assert ended(child) == 0
    assert [message["content"] for message in model.asked[-1]["messages"]] == [
        "first",
        "You said: first",
        "second",
    ]


def test_ctrl_c_at_the_prompt_leaves(started: Tree) -> None:
    with terminal(started, "interactive") as child:
        child.expect_exact("\x1b[?2004h")
        child.sendcontrol("c")
        assert ended(child) == 130


def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on(started: Tree, model: GatedModel) -> None:
    model.gate.clear()
    with terminal(started, "interactive") as child:
        type_line(child, "first")
        child.expect_exact("You said:")
        child.sendintr()
        child.expect_exact("(stopped)")
        assert model.left.wait(10)
        model.gate.set()
        type_line(child, "second")
        child.expect_exact("You said: second")
        child.expect_exact("\x1b[?2004h")
        child.sendcontrol("d")
        assert ended(child) == 0
    (session,) = started.json("sessions", "list")
    shown = eventually(lambda: started.json("sessions", "show", session["id"])["messages"])
    assert [(message["content"], message["complete"]) for message in shown] == [
        ("first", True),
        ("You said:", False),
        ("second", True),
        ("You said: second", True),
    ]


def test_an_error_is_shown_and_the_conversation_goes_on(started: Tree) -> None:
    with terminal(started, "interactive") as child:
        type_line(child, "refuse me")
        child.expect_exact("error: ")
        type_line(child, "/exit")
        assert ended(child) == 0


def test_commands_are_no_messages(started: Tree, model: GatedModel) -> None:
    with terminal(started, "interactive") as child:
        type_line(child, "/help")
        child.expect_exact("/session")
        type_line(child, "/session")
        child.expect_exact("it begins with the first message")
        type_line(child, "/exit")
        assert ended(child) == 0
    assert model.asked == []


def test_what_was_typed_is_remembered_for_the_next_time_and_for_nobody_else(started: Tree) -> None:
    for _ in range(2):
        with terminal(started, "interactive") as child:
            type_line(child, "/session")
            type_line(child, "/exit")
            ended(child)
    with terminal(started, "interactive") as child:
        child.expect_exact("\x1b[?2004h")
        child.send("\x1b[A\x1b[A\r")  # up twice: /session
        child.expect_exact("it begins with the first message")
        type_line(child, "/exit")
        assert ended(child) == 0
    history = started.home / "state" / "history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
