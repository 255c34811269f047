from __future__ import annotations

import os

import pytest

from fusionctl.paper import Live, Whole
from fusiond.protocol.chat import ChatChunk


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((10, 5)))


def test_a_pipe_gets_the_answer_at_its_end_and_never_what_became_void(
    capsys: pytest.CaptureFixture[str],
) -> None:
    paper = Whole()
    paper.write(ChatChunk("Par"))
    paper.write(ChatChunk("is is"))
    assert capsys.readouterr().out == ""
    paper.write(ChatChunk("London", reset=True))
    paper.end()
    assert capsys.readouterr().out == "London\n"


def test_an_answer_that_ends_with_a_newline_gets_no_second_one(capsys: pytest.CaptureFixture[str]) -> None:
    paper = Whole()
    paper.write(ChatChunk("a\n"))
    paper.end()
    assert capsys.readouterr().out == "a\n"


def test_a_torn_answer_leaves_nothing_on_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    paper = Whole()
    paper.write(ChatChunk("Par"))
    paper.tear()
    paper.write(ChatChunk("b"))
    paper.end()
    assert capsys.readouterr().out == "b\n"


def test_a_terminal_gets_each_piece_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    paper = Live()
    paper.write(ChatChunk("Par"))
    assert capsys.readouterr().out == "Par"
    paper.write(ChatChunk("is"))
    paper.end()
    assert capsys.readouterr().out == "is\n"


@pytest.mark.parametrize(
    ("void", "wipe"),
    [
        ("short", "\r\x1b[J"),
        ("more than ten columns", "\x1b[2A\r\x1b[J"),
        ("a\nb\n", "\x1b[2A\r\x1b[J"),
        ("1\n2\n3\n4\n5\n6\n7\n", "\x1b[4A\r\x1b[J"),
    ],
)
def test_what_is_void_is_wiped_off_as_far_as_it_can_be(
    void: str, wipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paper = Live()
    paper.write(ChatChunk(void))
    capsys.readouterr()
    paper.write(ChatChunk("new", reset=True))
    assert capsys.readouterr().out == f"{wipe}new"


def test_what_a_model_writes_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    paper = Live()
    paper.write(ChatChunk("\x1b[2Ja"))
    assert capsys.readouterr().out == "[2Ja"
