from __future__ import annotations

from pathlib import Path

from fusionctl.tail import Tail, older


def test_lines_come_once_and_only_when_they_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = Tail(path)
    assert list(tail.lines()) == []
    path.write_text("one\ntw")
    assert list(tail.lines()) == ["one"]
    with path.open("a") as file:
        file.write("o\nthree\n")
    assert list(tail.lines()) == ["two", "three"]
    assert list(tail.lines()) == []


def test_nothing_is_lost_when_the_file_is_rotated_away(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\n")
    tail = Tail(path)
    assert list(tail.lines()) == ["one"]
    with path.open("a") as file:
        file.write("two\n")
    path.rename(tmp_path / "log.1")
    assert list(tail.lines()) == ["two"]
    path.write_text("three\n")
    assert list(tail.lines()) == ["three"]
    assert list(older(path)) == ["one", "two"]


def test_a_file_that_was_emptied_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("a long line\n")
    tail = Tail(path)
    assert list(tail.lines()) == ["a long line"]
    path.write_text("b\n")
    assert list(tail.lines()) == ["b"]


def test_bytes_that_are_no_text_do_not_end_it(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\xff\n")
    assert list(Tail(tmp_path / "log").lines()) == ["\ufffd"]
