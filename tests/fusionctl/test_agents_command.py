"""`agents`, `tools`, and agents in `chat` and `interactive`, as a person and a script use them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from fusionctl.client import Client
from fusiond.errors import Denied
from fusiond.protocol.approvals import ApprovalAsk, Verdict
from tests.fusionctl.terminal import ended, terminal
from tests.fusionctl.test_interactive import type_line
from tests.scripted_model import ScriptedModel, act, call, choose, final
from tests.tree import Tree, running

TOOLS = '''
from fusiond.tools import tool

@tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b

@tool
def launch(rocket: str) -> str:
    """Launches a rocket."""
    return f"{rocket} is in the air"

@tool
def forbidden() -> None:
    """Is never called."""

@tool
def fails() -> None:
    """Fails."""
    raise OSError("no fuel")
'''
CONFIG = """
[tools]
modules = ["arithmetic"]
approval = {launch = "ask", forbidden = "never"}
[agents.pilot]
description = "Flies."
tools = ["launch", "add"]
"""


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with closing(ScriptedModel()) as model:
        yield model


@pytest.fixture(scope="module")
def tree(model: ScriptedModel) -> Iterator[Tree]:
    with running(model.configuration) as tree:
        (tree.home / "arithmetic.py").write_text(TOOLS)
        tree.configure(model.configuration + CONFIG)
        tree.ok("reload")
        model.script |= {
            "sum": [act("add", a=1, b=2), final("3")],
            "fly": [act("launch", rocket="Saturn"), act("launch", rocket="Ariane"), final("flown")],
            "circles": [act("add", a=1, b=1)],
            "both": [call("pilot", "sum"), final("three")],
            "which": [choose("pilot")],
            "and then?": [final("done")],
        }
        yield tree


# --- tools --------------------------------------------------------------------------------------------------


def test_tools_are_listed_with_where_they_come_from_and_what_they_need(tree: Tree) -> None:
    listed = {tool["name"]: tool for tool in tree.json("tools", "list")}
    assert set(listed["add"]) == {"name", "description", "parameters", "source", "approval"}
    assert (listed["add"]["source"], listed["launch"]["approval"]) == ("module arithmetic", "ask")
    assert "Adds two numbers." in tree.ok("tools", "list")
    shown = tree.ok("tools", "show", "add")
    assert "a: integer" in shown
    assert "isolation: " in shown


@pytest.mark.parametrize(
    ("args", "code", "out", "err"),
    [
        (["add", '{"a": 1, "b": 2}'], 0, "3\n", ""),
        (["add", '{"a": 1}'], 2, "", "the argument 'b' is missing"),
        (["add", "{"], 2, "", "no JSON"),
        (["add", "[1]"], 2, "", "must be a JSON object"),
        (["ad", "{}"], 2, "", "did you mean add?"),
        (["forbidden"], 77, "", "never"),
        (["launch", '{"rocket": "X"}'], 77, "", "--yes"),
        (["launch", '{"rocket": "X"}', "--yes"], 0, "X is in the air\n", ""),
        (["fails"], 1, "OSError: no fuel (arithmetic.py:21)\n", "the tool says that it failed"),
    ],
)
def test_a_tool_is_called_by_hand(tree: Tree, args: list[str], code: int, out: str, err: str) -> None:
    done = tree.run("tools", "call", *args)
    assert (done.returncode, done.stdout) == (code, out), done.stderr
    assert err in done.stderr
    assert done.stderr.count("\n") <= 1


def test_arguments_come_from_standard_input_too(tree: Tree) -> None:
    assert tree.ok("tools", "call", "add", "-", "--json", input='{"a": 2, "b": 2}').startswith('{"ok":true')


def test_a_denied_call_names_the_key_that_decides(tree: Tree) -> None:
    assert 'tools.approval.launch = "allow"' in tree.run("tools", "call", "launch", '{"rocket": "X"}').stderr


# --- agents -------------------------------------------------------------------------------------------------


def test_the_agents_are_listed_with_their_tools(tree: Tree) -> None:
    listed = {agent["name"]: agent for agent in tree.json("agents", "list")}
    assert set(listed) == {"file_ops", "shell", "web", "general", "pilot"}
    assert listed["pilot"] == {
        "name": "pilot",
        "description": "Flies.",
        "tools": ["launch", "add"],
        "source": "configuration",
    }
    assert "tools: launch, add" in tree.ok("agents", "show", "pilot")
    done = tree.run("agents", "show", "pilto")
    assert (done.returncode, "did you mean pilot?" in done.stderr) == (2, True)


def test_a_run_puts_out_its_answer_and_can_be_looked_into(tree: Tree) -> None:
    assert tree.ok("agents", "run", "general", "sum") == "3\n"
    document = tree.json("agents", "run", "general", "sum")
    assert (document["answer"], document["steps"], document["finish_reason"]) == ("3", 1, "final")
    assert document["usage"] == {"input_tokens": 14, "output_tokens": 10}
    listed = tree.json("agents", "runs")[0]
    assert listed == {
        "id": document["run"],
        "agent": "general",
        "state": "completed",
        "task": "sum",
        "steps": 1,
        "answer": "3",
    }
    traced = tree.json("agents", "trace", document["run"][:10])
    (step,) = traced["steps"]
    assert step["ms"] > 0
    assert {key: step[key] for key in ("n", "thought", "action", "observation")} == {
        "n": 1,
        "thought": "I use add",
        "action": {"tool": "add", "input": {"a": 1, "b": 2}},
        "observation": "3",
    }
    told = tree.ok("agents", "trace", document["run"])
    assert "1. thought  I use add" in told
    assert "answer (final)  3" in told
    assert tree.ok("agents", "resume", document["run"]) == "3\n"


def test_what_is_piped_in_is_part_of_the_task(tree: Tree, model: ScriptedModel) -> None:
    model.script["look at\n\nthis"] = [final("seen")]
    assert tree.ok("agents", "run", "general", "look at", input="this\n") == "seen\n"
    done = tree.run("agents", "run", "general")
    assert (done.returncode, "there is no task" in done.stderr) == (2, True)


def test_a_trace_shows_each_step_as_it_comes_and_those_of_called_agents(tree: Tree) -> None:
    done = tree.run("agents", "orchestrate", "both", "--trace")
    assert done.stdout == "three\n"
    assert "supervisor 1. thought  pilot knows" in done.stderr
    assert "  pilot 1. thought  I use add" in done.stderr
    assert "   | 3" in done.stderr
    lines = [
        json.loads(line)
        for line in tree.ok("agents", "orchestrate", "both", "--trace", "--json").splitlines()
    ]
    assert lines[-1]["answer"] == "three"
    assert [line["agent"] for line in lines[:-1]] == ["supervisor", "pilot", "pilot", "supervisor"]


def test_a_task_is_routed_to_one_agent(tree: Tree, model: ScriptedModel) -> None:
    model.script["which"] = [choose("pilot")]
    document = tree.json("agents", "route", "which")
    assert (document["steps"], document["finish_reason"]) == (1, "final")


def test_an_agent_that_goes_round_in_circles_or_comes_to_its_limit_exits_5(tree: Tree) -> None:
    done = tree.run("agents", "run", "general", "circles")
    assert done.returncode == 5
    assert "round in circles" in done.stderr
    done = tree.run("agents", "run", "general", "sum", "--max-steps", "1")
    assert (done.returncode, done.stdout) == (5, "3\n")
    assert "limit of steps" in done.stderr


def test_an_unknown_agent_or_run_is_a_usage_error(tree: Tree) -> None:
    for command in (["run", "nobody", "x"], ["resume", "ffff"], ["trace", "ffff"]):
        done = tree.run("agents", *command)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), command


# --- approvals ----------------------------------------------------------------------------------------------


def test_without_a_terminal_a_call_that_needs_approval_ends_the_command_and_the_run_can_be_resumed(
    tree: Tree,
) -> None:
    done = tree.run("agents", "run", "pilot", "fly")
    assert (done.returncode, done.stdout) == (77, "")
    for word in ("launch", "--yes", "tools.approval.launch", "fusionctl agents resume"):
        assert word in done.stderr
    run = tree.json("agents", "runs")[0]
    assert (run["state"], run["steps"]) == ("waiting", 1)
    assert tree.run("agents", "resume", run["id"]).returncode == 77
    assert tree.ok("agents", "resume", run["id"], "--yes") == "flown\n"


def test_a_person_is_asked_and_always_is_remembered(tree: Tree) -> None:
    with terminal(tree, "agents", "run", "pilot", "fly") as child:
        child.expect_exact('pilot wants to call launch with {"rocket": "Saturn"}')
        child.expect_exact("[n]o: ")
        child.sendline("perhaps")
        child.expect_exact("[n]o: ")
        child.sendline("a")
        child.expect_exact("flown")
        assert ended(child) == 0


def test_a_person_may_say_no_and_the_agent_is_told(tree: Tree) -> None:
    with terminal(tree, "agents", "run", "pilot", "fly") as child:
        child.expect_exact("[n]o: ")
        child.sendline("n")
        child.expect_exact("Ariane")
        child.expect_exact("[n]o: ")
        child.sendline("o")
        child.expect_exact("flown")
        assert ended(child) == 0
    run = tree.json("agents", "runs")[0]["id"]
    seen = [step["observation"] for step in tree.json("agents", "trace", run)["steps"]]
    assert seen == ["the person did not allow this call", "Ariane is in the air"]


def test_ctrl_c_at_the_question_leaves_the_run_waiting(tree: Tree) -> None:
    with terminal(tree, "agents", "run", "pilot", "fly") as child:
        child.expect_exact("[n]o: ")
        child.sendintr()
        assert ended(child) == 130
    assert tree.json("agents", "runs")[0]["state"] == "waiting"


async def test_a_program_is_asked_by_a_function(tree: Tree) -> None:
    async with Client(tree.home) as client:
        asked: list[ApprovalAsk] = []

        async def approve(ask: ApprovalAsk) -> Verdict:
            asked.append(ask)
            return "once"

        assert (await client.run("pilot", "fly", approve=approve)).answer == "flown"
        assert len(asked) == 2
        with pytest.raises(Denied, match="nobody to ask"):
            await client.run("pilot", "fly")
        assert (await client.call_tool("add", {"a": 1, "b": 5})).text == "6"
        assert (await client.orchestrate("both")).answer == "three"


# --- conversations ------------------------------------------------------------------------------------------


def test_a_conversation_with_an_agent_remembers(tree: Tree, model: ScriptedModel) -> None:
    done = tree.run("interactive", "--agent", "general", input="sum\nand then?\n")
    assert (done.returncode, done.stdout) == (0, "3\ndone\n")
    said = [message["content"] for message in model.requests[-1]["messages"][1:]]
    assert said == ["sum", "3", "and then?"]
    session = tree.json("sessions", "list")[0]
    shown = tree.json("sessions", "show", session["id"])["messages"]
    assert [(message["role"], message["content"]) for message in shown] == [
        ("user", "sum"),
        ("assistant", "3"),
        ("user", "and then?"),
        ("assistant", "done"),
    ]


def test_chat_with_an_agent_asks_for_approval_like_a_run(tree: Tree) -> None:
    done = tree.run("chat", "fly", "--agent", "pilot")
    assert (done.returncode, "tools.approval.launch" in done.stderr) == (77, True)
    assert tree.ok("chat", "fly", "--agent", "pilot", "--yes") == "flown\n"
    assert tree.json("chat", "sum", "--agent", "pilot")["text"] == "3"


def test_always_holds_for_a_whole_conversation(tree: Tree) -> None:
    with terminal(tree, "interactive", "--agent", "pilot") as child:
        type_line(child, "fly")
        child.expect_exact("[n]o: ")
        child.sendline("always")
        child.expect_exact("flown")
        type_line(child, "fly")
        child.expect_exact("flown")
        child.expect_exact("\x1b[?2004h")
        child.sendcontrol("d")
        assert ended(child) == 0


def test_the_router_knows_who_has_answered_before(tree: Tree, model: ScriptedModel) -> None:
    model.script["whose"] = [choose("pilot"), final("mine")]
    tree.ok("chat", "sum", "--agent", "pilot")
    session = tree.json("sessions", "list")[0]["id"]
    tree.run("chat", "whose", "--agent", "router", "--session", session)
    asked = next(
        body for body in reversed(model.requests) if "You decide which agent" in str(body["messages"][0])
    )
    assert "answered so far: pilot" in asked["messages"][0]["content"]


def test_an_unknown_agent_in_a_chat_is_a_usage_error(tree: Tree) -> None:
    done = tree.run("chat", "hi", "--agent", "pilto")
    assert (done.returncode, "did you mean pilot?" in done.stderr) == (2, True)
