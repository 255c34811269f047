"""Which tools there are, and what is said of modules that cannot be used."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fusiond.config.schema import ToolsSettings
from fusiond.errors import NotFound
from fusiond.tools.registry import Registry, load
from fusiond.tools.settings import ToolsConfig

GOOD = '''
from fusiond.tools import tool, Tool, ToolMetadata
@tool
def one(n: int) -> int:
    """The first."""
    return n
@tool
class Weather:
    """Weather."""
    def __init__(self, key: str): self.key = key
    def execute(self) -> str: return self.key
class Hand(Tool):
    def metadata(self): return ToolMetadata(name="hand", description="By hand.")
    def execute(self, arguments): return "done"
'''


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    before, path = set(sys.modules), list(sys.path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]
    sys.path[:] = path


def registry(folder: Path, *modules: str, **settings: Any) -> Registry:
    config = msgspec.convert({"modules": modules, **settings}, ToolsSettings)
    return load(ToolsConfig(settings=config, folder=str(folder), workspace=str(folder), run_dir=str(folder)))


def test_tools_of_all_three_kinds_are_found_in_a_module(folder: Path) -> None:
    (folder / "good.py").write_text(GOOD)
    found = registry(folder, "good", configured={"weather": {"key": "k"}}, approval={"one": "ask"})
    infos = {info.name: info for info in found.infos() if info.source == "module good"}
    assert sorted(infos) == ["hand", "one", "weather"]
    assert not any(info.problem for info in infos.values())
    assert (infos["one"].approval, infos["hand"].approval) == ("ask", "allow")
    assert found.get("hand").execute({}) == "done"
    with pytest.raises(NotFound, match=r"did you mean weather\?"):
        found.get("wether")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "import nothing_of_the_kind",
            "ModuleNotFoundError: No module named 'nothing_of_the_kind' (bad.py:1)",
        ),
        ("x = 1\n1 / 0", "ZeroDivisionError: division by zero (bad.py:2)"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(1)", "SystemExit"),
        ("x = 1", "it has no tools"),
        ("from fusiond.tools import tool\n@tool\ndef f(*a): pass", "*a cannot be a tool's parameter"),
    ],
)
def test_a_module_that_cannot_be_used_is_told_and_hurts_no_other(folder: Path, text: str, words: str) -> None:
    (folder / "bad.py").write_text(text)
    (folder / "good.py").write_text(GOOD)
    found = registry(folder, "bad", "good", "missing", configured={"weather": {"key": "k"}})
    problems = {info.name: info.problem for info in found.infos() if info.problem}
    assert words in problems["bad"]
    assert "No module named 'missing'" in problems["missing"]
    assert found.get("one")


def test_a_name_that_is_taken_twice_is_refused_naming_both_places(folder: Path) -> None:
    (folder / "good.py").write_text(GOOD)
    (folder / "again.py").write_text(GOOD)
    found = registry(folder, "good", "again", configured={"weather": {"key": "k"}})
    problems = [info.problem for info in found.infos() if info.name == "one" and info.problem]
    assert problems == ['the name is taken: module good and module again both have a tool "one"']


def test_settings_that_fit_no_tool_are_told(folder: Path) -> None:
    (folder / "good.py").write_text(GOOD)
    found = registry(
        folder,
        "good",
        configured={"weather": {"kee": "k"}, "wether": {"key": "k"}, "one": {"n": 1}},
        approval={"on": "ask", "mcp:x/*": "ask"},
    )
    problems = [info.problem for info in found.infos() if info.problem]
    assert any("no setting 'kee', did you mean key?" in problem for problem in problems)
    assert "[tools.wether]: there is no such tool (did you mean weather?)" in problems
    assert "[tools.one]: this tool takes no settings" in problems
    assert "tools.approval.on: there is no such tool (did you mean one?)" in problems
    assert not any("mcp" in problem for problem in problems)


def test_a_module_beside_the_configuration_is_not_taken_for_an_installed_one(folder: Path) -> None:
    (folder / "json.py").write_text("raise RuntimeError('never imported')")
    (folder / "good.py").write_text("import json\njson.dumps(1)\n" + GOOD)
    assert registry(folder, "good", configured={"weather": {"key": "k"}}).get("one")
