"""The files of the workspace, and none elsewhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fusiond.protocol.tools import ToolOutcome
from fusiond.tools.builtin import beneath
from fusiond.tools.builtin.files import MOST_READ, MOST_WRITTEN, file_tools
from fusiond.tools.calling import call


class Files:
    def __init__(self, root: Path) -> None:
        self.root = root
        self._tools = {tool.metadata().name: tool for tool in file_tools(str(root))}

    def __call__(self, name: str, **arguments: Any) -> ToolOutcome:
        return call(self._tools[name], msgspec.json.encode(arguments))


@pytest.fixture(params=["openat2", "by hand"])
def files(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    if request.param == "by hand":
        monkeypatch.setattr(beneath, "_OPENAT2", 9999)  # a kernel that does not know the call
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "outside").mkdir()
    return Files(tmp_path / "work space")


def test_what_is_written_can_be_read_and_listed(files: Files) -> None:
    assert files("write_file", path="a/b/c.txt", content="grün\n").text == "a/b/c.txt: 6 bytes written"
    assert files("read_file", path="a/b/c.txt").text == "grün\n"
    assert files("write_file", path="a/b/c.txt", content="more", append=True).ok
    assert files("read_file", path=f"{files.root}/a/b/c.txt").text == "grün\nmore"
    assert files("list_files").text == "a/"
    assert files("list_files", recursive=True).text == "a/\na/b/\na/b/c.txt  10 bytes"
    assert files("list_files", path="a/b", pattern="*.md").text == "nothing"
    assert stat.S_IMODE(files.root.stat().st_mode) == 0o700


def test_writing_replaces_the_whole_and_keeps_the_mode(files: Files) -> None:
    files("write_file", path="run.sh", content="old")
    (files.root / "run.sh").chmod(0o750)
    files("write_file", path="run.sh", content="new")
    assert (files.root / "run.sh").read_text() == "new"
    assert stat.S_IMODE((files.root / "run.sh").stat().st_mode) == 0o750
    assert [entry.name for entry in files.root.iterdir()] == ["run.sh"]


def test_a_part_of_a_file_is_read_and_the_rest_named(files: Files) -> None:
    files("write_file", path="long", content="0123456789")
    assert (
        files("read_file", path="long", offset=2, limit=3).text
        == "234\n… 5 of 10 bytes follow, from offset 5"
    )
    assert files("read_file", path="long", offset=99).text == ""


def test_a_huge_file_is_read_in_part_only(files: Files) -> None:
    files.root.mkdir()
    with (files.root / "huge").open("wb") as file:
        file.truncate(1 << 40)
    outcome = files("read_file", path="huge")
    assert len(outcome.text) < MOST_READ + 100
    assert "bytes follow" in outcome.text


def test_what_is_too_large_is_not_written(files: Files) -> None:
    outcome = files("write_file", path="x", content="x" * (MOST_WRITTEN + 1))
    assert (outcome.ok, (files.root / "x").exists()) == (False, False)


OUTSIDE = [
    "../secret",
    "a/../../secret",
    "/etc/passwd",
    "link",
    "folder/secret",
    "deep/link",
    "..",
    "/",
    "/proc/self/root/etc/passwd",
]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("tool", ["read_file", "write_file", "list_files"])
def test_nothing_outside_is_reached(files: Files, tool: str, path: str) -> None:
    (files.root / "deep").mkdir(parents=True)
    (files.root / "a").mkdir()
    (files.root / "link").symlink_to("../secret")
    (files.root / "folder").symlink_to(files.root.parent)
    (files.root / "deep" / "link").symlink_to("/etc/passwd")
    content = {"content": "overwritten"} if tool == "write_file" else {}
    outcome = files(tool, path=path, **content)
    assert (files.root.parent / "secret").read_text() == "secret"
    assert "secret" not in outcome.text.replace("secret:", "").replace(path, "")
    assert "root:" not in outcome.text
    if not (tool == "write_file" and path in ("link", "deep/link")):
        assert not outcome.ok


def test_a_link_that_is_written_to_is_replaced_and_not_followed(files: Files) -> None:
    files.root.mkdir()
    (files.root / "link").symlink_to("../secret")
    files("write_file", path="link", content="mine")
    assert (files.root.parent / "secret").read_text() == "secret"


def test_what_is_no_file_is_refused_and_holds_nobody_up(files: Files) -> None:
    files.root.mkdir()
    os.mkfifo(files.root / "pipe")
    (files.root / "folder").mkdir()
    for path in ("pipe", "folder"):
        for tool, more in (("read_file", {}), ("write_file", {"content": "x"})):
            outcome = files(tool, path=path, **more)
            assert not outcome.ok
            assert "not a file" in outcome.text


def test_links_are_listed_and_not_followed(files: Files) -> None:
    files.root.mkdir()
    (files.root / "up").symlink_to("..")
    assert files("list_files", recursive=True).text == "up -> .."


def test_a_long_list_is_cut(files: Files) -> None:
    files.root.mkdir()
    for n in range(1005):
        (files.root / f"{n:04}").touch()
    lines = files("list_files").text.splitlines()
    assert (len(lines), lines[-1]) == (1001, "… 5 more; give a folder or a pattern")


def test_what_is_missing_or_empty_is_said_in_words(files: Files) -> None:
    assert files("read_file", path="none").text == "none: No such file or directory"
    assert files("read_file", path="a\0b").kind == "error"
    assert files("read_file").kind == "invalid"
    assert files("write_file", path="", content="x").kind == "error"
