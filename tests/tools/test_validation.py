"""Arguments against schemas of others, in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiond.tools.approval import approval_of
from fusiond.tools.validation import problems

SCHEMA = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "description": "where"},
        "depth": {"type": ["integer", "null"], "minimum": 0},
        "mode": {"enum": ["r", "w"]},
        "more": {"type": "object", "properties": {"x": {"type": "number"}}, "additionalProperties": False},
    },
    "required": ["path"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "the argument 'path' is missing (where)"),
        ({"path": 5}, "the argument 'path' must be of type string, not 5"),
        ({"path": "x", "pth": 1}, "there is no argument 'pth', did you mean path?"),
        ({"path": "x", "depth": -1}, "the argument 'depth' is wrong: -1 is less than the minimum of 0"),
        ({"path": "x", "mode": "a"}, 'the argument \'mode\' must be one of "r", "w", not "a"'),
        ({"path": "x", "more": {"y": 1}}, "there is no argument 'more.y'; there are: x"),
        ([], "the input must be of type object, not []"),
    ],
)
def test_what_is_wrong_is_said_in_words(arguments: Any, words: str) -> None:
    assert problems(SCHEMA, arguments) == words


def test_what_is_right_needs_no_words() -> None:
    assert problems(SCHEMA, {"path": "x", "depth": None, "mode": "r", "more": {"x": 1.5}}) == ""


def test_of_many_problems_the_first_are_told_and_the_rest_counted() -> None:
    assert problems(SCHEMA, {str(n): n for n in range(20)}).endswith("and 16 more")


@pytest.mark.parametrize(
    "schema",
    [{"type": "no such type"}, {"$ref": "#/nowhere"}, {"$ref": "https://example.com/x"}, {"type": 5}],
)
def test_a_schema_that_is_none_forbids_nothing(schema: dict[str, Any]) -> None:
    assert problems(schema, {"a": 1}) == ""


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.none(), st.lists(st.text()))))
def test_whatever_is_given_is_judged(arguments: dict[str, Any]) -> None:
    assert isinstance(problems(SCHEMA, arguments), str)


def test_the_most_specific_pattern_decides_on_an_approval() -> None:
    approval: Any = {"shell": "ask", "mcp:*": "ask", "mcp:time/*": "allow", "mcp:time/set": "never"}
    asked = ["shell", "mcp:git/log", "mcp:time/now", "mcp:time/set", "read_file"]
    assert [approval_of(approval, name) for name in asked] == ["ask", "ask", "allow", "never", "allow"]
