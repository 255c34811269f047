"""Whatever stands in `config.toml`: it is taken, or every problem is told with its line."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiond.config import check, load
from fusiond.config.naming import known_keys
from fusiond.config.toml_text import toml_key, toml_value
from fusiond.errors import ConfigError
from tests.config.files import EXAMPLE
from tests.corpus import corpus

KEYS = sorted({part for key in known_keys() for part in key})
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)
PATHS = st.lists(st.sampled_from(KEYS) | st.text(max_size=5), min_size=1, max_size=4)
LINES = st.builds(lambda path, value: f"{'.'.join(map(toml_key, path))} = {toml_value(value)}", PATHS, VALUES)


def problems(text: str) -> None:
    for problem in check(text):
        assert str(problem)


@pytest.mark.parametrize("data", corpus("config").values(), ids=corpus("config"))
def test_what_once_broke_it_is_taken_or_told_of(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(data)
    with suppress(ConfigError):
        load(file, {})
    problems(data.decode(errors="replace"))


@given(text=st.text(max_size=200))
def test_any_text_is_taken_or_told_of(text: str) -> None:
    problems(text)


@given(lines=st.lists(LINES, max_size=5))
def test_our_keys_with_any_values_are_taken_or_told_of(lines: list[str]) -> None:
    problems("\n".join(lines))


@given(data=st.data())
def test_a_file_that_was_damaged_is_taken_or_told_of(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(EXAMPLE)))
    gone = data.draw(st.integers(0, 20))
    problems(EXAMPLE[:at] + data.draw(st.text(max_size=5)) + EXAMPLE[at + gone :])
