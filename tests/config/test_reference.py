"""The document about the configuration says what the code does."""

from __future__ import annotations

from fusiond.config.naming import known_keys
from fusiond.config.reference import reference
from tests.tree import ROOT

HOW = "python -m fusiond.config.reference > fusiond/docs/configuration.md"


def test_the_document_is_what_the_code_makes() -> None:
    assert (ROOT / "fusiond/docs/configuration.md").read_text() == reference(), f"out of date: {HOW}"


def test_it_has_every_key_with_its_meaning() -> None:
    lines = [line for line in reference().splitlines() if line.startswith("| `")]
    told = {line.split("`")[1] for line in lines}
    tables = {key[:-1] for key in known_keys()}
    assert {key[-1] for key in known_keys() if key not in tables and key[-1] != "NAME"} <= told
    assert not [line for line in lines if line.endswith("|  |")]
