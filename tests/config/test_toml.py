"""TOML is written as it is read, and the line of each key is found."""

from __future__ import annotations

import tomllib

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusiond.config import Config, check, to_toml
from fusiond.config.lines import key_lines

unhurried = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
"""How fast this machine is today is no property of the code."""

KEYS = (*Config.__struct_fields__, "modules", "servers", "llm", "approval", "shell")
NAMES = st.text(min_size=1, max_size=8)
VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
TABLES = st.recursive(
    VALUES, lambda inner: st.dictionaries(NAMES | st.sampled_from(KEYS), inner, max_size=4), max_leaves=12
)


@unhurried
@given(st.dictionaries(NAMES, TABLES, max_size=5))
def test_any_table_can_be_written_and_read_again(table: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(table)) == table


def test_lines_are_found_through_all_of_tomls_shapes() -> None:
    text = '''\
a = 1  # b = 2
"c.d" = """
x = 1
[y]
"""
e.f = [
  "[g]", # ]
  {h = 1,
   i = {"j" = '}'}},
]
  [ k . "l m" ]  # comment
n = 'o = 1'
p = {}
q = 3
[[r.s]]
t = 2026-01-01T00:00:00Z
[[r.s]]
u = """a\\""""
v = \'\'\'w\'\'\'\'
'''
    assert key_lines(text) == {
        ("a",): 1,
        ("c.d",): 2,
        ("e",): 6,
        ("e", "f"): 6,
        ("e", "f", "h"): 8,
        ("e", "f", "i"): 9,
        ("e", "f", "i", "j"): 9,
        ("k",): 11,
        ("k", "l m"): 11,
        ("k", "l m", "n"): 12,
        ("k", "l m", "p"): 13,
        ("k", "l m", "q"): 14,
        ("r",): 15,
        ("r", "s"): 15,
        ("r", "s", "t"): 16,
        ("r", "s", "u"): 18,
        ("r", "s", "v"): 19,
    }


@unhurried
@given(st.dictionaries(NAMES, TABLES, max_size=5))
def test_the_line_of_every_key_is_found(table: dict[str, object]) -> None:
    text = to_toml(table)
    lines = key_lines(text)
    for path in _paths(table):
        assert path in lines
        assert 1 <= lines[path] <= text.count("\n")


def _paths(table: dict[str, object]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for key, value in table.items():
        found.append((key,))
        if isinstance(value, dict):
            found += [(key, *rest) for rest in _paths(value)]
    return found


@unhurried
@given(st.dictionaries(NAMES | st.sampled_from(KEYS), TABLES, max_size=5))
def test_checking_any_table_ends_in_problems_of_one_line(table: dict[str, object]) -> None:
    for problem in check(to_toml(table)):
        assert problem.line is not None
        assert "\n" not in str(problem)


@unhurried
@given(st.text())
def test_checking_any_text_ends_in_problems_with_lines(text: str) -> None:
    for problem in check(text):
        assert problem.line is not None
        assert str(problem).isprintable()
    key_lines(text)
