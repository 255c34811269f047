"""`chat`, with a real daemon and a model whose words wait for the test."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.fusionctl.gated_model import GatedModel
from tests.fusionctl.terminal import ended, terminal
from tests.tree import Tree, eventually

PROMPT = "one two three"
ANSWER = "You said: one two three"


def pid_of(tree: Tree, name: str) -> int:
    if name != "supervisor":
        return int(tree.actor(name)["pid"])
    pid = tree.supervisor
    assert pid is not None
    return pid


def test_a_pipe_gets_the_answer_and_nothing_else(tree: Tree, model: GatedModel) -> None:
    done = tree.run("chat", PROMPT)
    assert (done.returncode, done.stdout) == (0, f"{ANSWER}\n")
    assert done.stderr.startswith("starting the daemon (pid ")
    assert done.stderr.count("\n") == 1


def test_what_is_piped_in_is_added_to_the_prompt(tree: Tree, model: GatedModel) -> None:
    assert tree.ok("chat", "sum this up:", input="a text\n") == "You said: sum this up:\n\na text\n"
    assert tree.ok("chat", input="a text\n") == "You said: a text\n"


def test_the_answer_as_json_has_its_figures(tree: Tree, model: GatedModel) -> None:
    done = tree.run("chat", PROMPT, "--json")
    answer = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert answer.pop("latency_ms") >= answer.pop("ttft_ms") > 0
    assert answer.pop("session")
    assert answer == {
        "text": ANSWER,
        "model": "test/echo",
        "finish_reason": "stop",
        "usage": {"input_tokens": 7, "output_tokens": 5},
        "attempts": 1,
    }


def test_options_and_the_system_prompt_reach_the_provider(tree: Tree, model: GatedModel) -> None:
    tree.ok(
        "chat", PROMPT, "-s", "Be brief.", "-o", "temperature", "0.5", "-o", "user", "me", "-m", "test/other"
    )
    body = model.asked[0]
    assert (body["temperature"], body["user"], body["model"]) == (0.5, "me", "other")
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    "args",
    [
        [],
        [""],
        ["  "],
        ["hello", "there"],
        ["hello", "-c", "--session", "x"],
        ["hello", "--schema", "nosuch.json"],
        ["hello", "--schema", "{no"],
        ["hello", "--schema", "{}x"],
        ["hello", "-o", "temperature"],
    ],
)
def test_what_makes_no_sense_is_refused_before_a_daemon_is_started(tree: Tree, args: list[str]) -> None:
    done = tree.run("chat", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert tree.processes() == []


def test_a_conversation_goes_on_with_the_last_or_a_named_session(tree: Tree, model: GatedModel) -> None:
    first = json.loads(tree.ok("chat", "first", "--json"))["session"]
    assert json.loads(tree.ok("chat", "second", "-c", "--json"))["session"] == first
    tree.ok("chat", "elsewhere")
    tree.ok("chat", "third", "--session", first)
    said = [message["content"] for message in model.asked[-1]["messages"]]
    assert said == ["first", "You said: first", "second", "You said: second", "third"]


def test_a_refused_key_is_one_line_and_exit_77(tree: Tree, model: GatedModel) -> None:
    done = tree.run("chat", "refuse me", "--json")
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert done.stderr.count("\n") == 2


def test_an_unknown_session_is_exit_2(tree: Tree, model: GatedModel) -> None:
    assert tree.run("chat", "x", "--session", "nosuch").returncode == 2


@pytest.mark.parametrize("victim", ["llm.0", "agent.0", "router", "store", "supervisor"])
def test_an_answer_outlives_the_death_of_any_process(tree: Tree, model: GatedModel, victim: str) -> None:
    tree.start()
    model.gate.clear()
    asking = tree.popen("chat", PROMPT, "--json")
    eventually(lambda: model.asked)
    os.kill(pid_of(tree, victim), signal.SIGKILL)
    eventually(lambda: tree.json("health")["status"] == "healthy")
    model.gate.set()
    out, err = asking.communicate(timeout=30)
    assert asking.returncode == 0, err
    answer = json.loads(out)
    assert answer["text"] == ANSWER
    messages = tree.json("sessions", "show", answer["session"])["messages"]
    assert [message["content"] for message in messages] == [PROMPT, ANSWER]
    assert answer["attempts"] == len(model.asked)


def test_an_answer_outlives_a_supervisor_that_is_stopped_and_its_actors_with_it(
    tree: Tree, model: GatedModel
) -> None:
    tree.start()
    model.gate.clear()
    asking = tree.popen("chat", PROMPT)
    eventually(lambda: model.asked)
    supervisor, llm = pid_of(tree, "supervisor"), pid_of(tree, "llm.0")
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(llm, signal.SIGKILL)
    model.gate.set()
    out, err = asking.communicate(timeout=40)
    assert (asking.returncode, out) == (0, f"{ANSWER}\n")
    assert f"the supervisor (pid {supervisor}) is stopped by a signal: killing it" in err


def test_without_autostart_the_death_of_the_daemon_is_exit_4(tree: Tree, model: GatedModel) -> None:
    tree.start()
    model.gate.clear()
    asking = tree.popen("--no-autostart", "chat", PROMPT)
    eventually(lambda: model.asked)
    os.kill(pid_of(tree, "supervisor"), signal.SIGKILL)
    out, err = asking.communicate(timeout=30)
    assert (asking.returncode, out) == (4, "")
    assert "has ended" in err


# --- on a terminal -----------------------------------------------------------------------------------------------


def test_a_terminal_shows_words_as_they_come(tree: Tree, model: GatedModel) -> None:
    tree.start()
    model.gate.clear()
    with terminal(tree, "chat", PROMPT) as child:
        child.expect_exact("You said:")
        model.gate.set()
        child.expect_exact(" one two three\r\n")
        assert ended(child) == 0


def test_without_streaming_nothing_is_shown_before_the_end(tree: Tree, model: GatedModel) -> None:
    tree.start()
    model.gate.clear()
    with terminal(tree, "chat", PROMPT, "--no-stream") as child:
        eventually(lambda: model.asked)
        model.gate.set()
        assert ended(child) == 0
        assert child.before == f"{ANSWER}\r\n"


@pytest.mark.parametrize("words", [0, 2])
def test_ctrl_c_takes_the_question_back_at_the_provider(tree: Tree, model: GatedModel, words: int) -> None:
    """Before the first word too."""
    tree.start()
    model.close_gate(words)
    with terminal(tree, "chat", PROMPT) as child:
        assert model.waiting.wait(10)
        child.sendintr()
        assert ended(child) == 130
        assert "error" not in child.before
    assert model.left.wait(10)


def test_a_client_that_is_killed_leaves_no_work_behind(tree: Tree, model: GatedModel) -> None:
    tree.start()
    model.close_gate(2)
    with terminal(tree, "chat", PROMPT) as child:
        child.expect_exact("You said:")
        child.kill(signal.SIGKILL)
    assert model.left.wait(10)
    (session,) = tree.json("sessions", "list")
    kept = [(PROMPT, True), ("You said:", False)]
    eventually(lambda: said(tree, session["id"]) == kept)
    eventually(lambda: not any(actor["in_flight"] for actor in tree.json("health")["actors"]))


def said(tree: Tree, session: str) -> list[tuple[str, bool]]:
    messages = tree.json("sessions", "show", session)["messages"]
    return [(message["content"], message["complete"]) for message in messages]


def test_an_answer_that_begins_anew_replaces_what_was_on_the_screen(tree: Tree, model: GatedModel) -> None:
    """The provider continues nothing, so that its second answer is another one."""
    tree.start()
    model.answers = ["London\nit is, I think", "Paris\nof course it is"]
    model.gate.clear()
    with terminal(tree, "chat", "The capital of France?") as child:
        child.expect_exact("London\r\nit is,")
        os.kill(pid_of(tree, "llm.0"), signal.SIGKILL)
        child.expect_exact("\x1b[1A\r\x1b[JParis\r\nof course")
        model.gate.set()
        child.expect_exact(" it is\r\n")
        assert ended(child) == 0


def test_the_daemon_dies_and_the_person_sees_one_answer(tree: Tree, model: GatedModel) -> None:
    tree.start()
    model.gate.clear()
    with terminal(tree, "chat", PROMPT) as child:
        child.expect_exact("You said:")
        os.kill(pid_of(tree, "supervisor"), signal.SIGKILL)
        child.expect_exact("\r\x1b[Jthe daemon (pid")
        child.expect_exact("has ended: starting the daemon (pid")
        child.expect_exact("You said:")
        model.gate.set()
        child.expect_exact(" one two three\r\n")
        assert ended(child) == 0
