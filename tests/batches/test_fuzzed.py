"""Whatever a batch file holds: each line is an item, or a problem with its number."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiond.batches import items
from fusiond.errors import UsageError
from tests.batches.written import look, openai, opener
from tests.corpus import corpus

GOOD = (
    json.dumps(openai()).encode() + b'\n{"prompt": "hello", "id": "b", "system": "s", "model": "m"}\nplain\n'
)


def surveyed(data: bytes) -> None:
    found = look(data)
    assert found.problem_count >= len(found.problems)
    assert all(problem.line >= 0 and problem.why for problem in found.problems)
    if not found.problem_count:
        assert found.total == sum(1 for _ in items(opener(data)))
        return
    with suppress(UsageError):
        for _ in items(opener(data)):
            pass


@pytest.mark.parametrize("data", corpus("batch").values(), ids=corpus("batch"))
def test_what_once_broke_it_is_read_or_told_of(data: bytes) -> None:
    surveyed(data)


@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_or_told_of(data: bytes) -> None:
    surveyed(data)


@given(data=st.data())
def test_a_file_that_was_damaged_is_read_or_told_of(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD)))
    surveyed(GOOD[:at] + data.draw(st.binary(max_size=4)) + GOOD[at + data.draw(st.integers(0, 20)) :])
