"""What models say, and how it is read."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiond.agents.decisions import Act, Final, Malformed, Words, read, schema
from fusiond.protocol.tools import ToolInfo

ACT = {
    "thought": "t",
    "action": {"tool": "shell", "input": {"command": "ls"}},
    "is_final": False,
    "final_answer": None,
}
END = {"thought": "t", "action": None, "is_final": True, "final_answer": "42"}
LS = Act("t", "shell", {"command": "ls"})


@pytest.mark.parametrize(
    "said",
    [
        json.dumps(ACT),
        f"```json\n{json.dumps(ACT, indent=2)}\n```",
        f"Sure! Here is what I do next:\n{json.dumps(ACT)}\nLet me know.",
        json.dumps(ACT)[:-1] + ",}",
        json.dumps(ACT).replace("false", "False").replace("null", "None"),
        '{"thought": "t", "action": "shell", "action_input": {"command": "ls"}}',
        '{"thought": "t", "tool": "shell", "input": {"command": "ls"}}',
        '{"thought": "t", "action": {"name": "shell", "arguments": "{\\"command\\": \\"ls\\"}"}}',
        '{"thoughts": "t", "tool_call": {"function": {"name": "shell", "arguments": {"command": "ls"}}}}',
        "{not json} but then " + json.dumps(ACT),
        json.dumps({**ACT, "final_answer": ""}),
    ],
)
def test_an_action_is_read_however_it_is_dressed(said: str) -> None:
    assert read("react", said) == LS


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (json.dumps(END), "42"),
        ('{"final_answer": "42"}', "42"),
        ('{"answer": "42", "is_final": true}', "42"),
        ('{"is_final": true, "final_answer": {"n": 42}}', '{"n": 42}'),
        ('{"thought": "a\nb", "is_final": true, "final_answer": "two\nlines"}', "two\nlines"),
        (json.dumps({**ACT, "is_final": True, "final_answer": "42"}), "42"),
        ('{"is_final": true, "final_answer": "a } and a { in it",}', "a } and a { in it"),
    ],
)
def test_an_answer_is_read_however_it_is_dressed(said: str, answer: str) -> None:
    decision = read("react", said)
    assert isinstance(decision, Final)
    assert decision.answer == answer


def test_what_holds_no_json_is_a_direct_answer() -> None:
    assert read("react", " Paris. \n") == Words("Paris.")


@pytest.mark.parametrize(
    ("kind", "said", "why"),
    [
        ("react", "", "empty"),
        ("react", "{", "no complete JSON object"),
        ("react", '{"thought": "I wonder"}', '"action" with "tool" and "input"'),
        ("react", '{"is_final": true, "final_answer": null}', "holds no answer"),
        ("react", '{"action": {"tool": "shell", "input": [1]}}', "must be an object"),
        ("react", '{"colour": "red"}', "either"),
        ("supervisor", '{"agent_to_invoke": "web", "agent_task": " "}', "says nothing"),
        ("supervisor", '{"thought": "hm"}', '"agent_to_invoke" with "agent_task"'),
        ("router", '{"reasoning": "none fits"}', '"agent_name" is missing'),
    ],
)
def test_what_might_have_been_a_decision_is_told_what_is_wrong_with_it(
    kind: Any, said: str, why: str
) -> None:
    decision = read(kind, said)
    assert isinstance(decision, Malformed)
    assert why in decision.why


def test_a_router_and_a_supervisor_name_agents() -> None:
    assert read("router", '{"agent_name": "web", "reasoning": "r"}') == Act("r", "web", "")
    said = '{"thought": "t", "agent_to_invoke": "web", "agent_task": "look", "is_final": false, "final_answer": null}'
    assert read("supervisor", said) == Act("t", "web", "look")


@given(st.text(max_size=400))
def test_whatever_is_said_is_read_as_something(said: str) -> None:
    for kind in ("react", "router", "supervisor"):
        assert read(kind, said) is not None


@given(st.text(alphabet='{}[]",:\\ \ntruefalsn0', max_size=200))
def test_whatever_looks_like_json_is_read_as_something(said: str) -> None:
    assert read("react", said) is not None


def test_a_reply_full_of_braces_takes_no_time() -> None:
    assert isinstance(read("react", "{" * 200_000), Malformed)
    assert isinstance(read("react", "{}" * 50_000), Malformed)


TOOLS = [
    ToolInfo(
        name="shell",
        description="d",
        parameters={"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
        source="built-in",
    ),
    ToolInfo(
        name="mcp:x/y", description="d", parameters={"$ref": "#/$defs/A", "$defs": {"A": {}}}, source="mcp:x"
    ),
]


@pytest.mark.parametrize("brief", [False, True])
def test_decisions_in_their_normal_form_satisfy_the_schema(brief: bool) -> None:
    valid = jsonschema.Draft202012Validator(schema("react", TOOLS, [], brief=brief)).is_valid
    assert valid(ACT)
    assert valid(END)
    assert valid({**ACT, "action": {"tool": "mcp:x/y", "input": {"anything": 1}}})
    assert not valid({**ACT, "action": {"tool": "rm", "input": {}}})
    assert not valid({**ACT, "action": {"tool": "shell", "input": {}}})
    assert not valid({})


def test_a_small_model_cannot_act_and_answer_at_once() -> None:
    valid = jsonschema.Draft202012Validator(schema("react", TOOLS, [], brief=True)).is_valid
    assert not valid({**ACT, "final_answer": "Paris"})
    assert not valid({**END, "thought": "t" * 301})
    supervisor = schema("supervisor", [], ["web", "shell"], brief=True)
    said = {
        "thought": "t",
        "agent_to_invoke": "web",
        "agent_task": "x",
        "is_final": False,
        "final_answer": None,
    }
    assert jsonschema.Draft202012Validator(supervisor).is_valid(said)
    assert not jsonschema.Draft202012Validator(supervisor).is_valid({**said, "final_answer": "x"})


def test_a_schema_for_other_providers_has_an_object_at_its_root() -> None:
    for kind in ("react", "router", "supervisor"):
        assert schema(kind, TOOLS, ["web"])["type"] == "object"
