"""Plain text: one prompt a line."""

from __future__ import annotations

import json

import pytest

from fusiond.batches import MAX_LINE

from .written import URL, look, prompts, read, whys


def test_each_line_is_a_chat_named_for_its_number() -> None:
    first, second = read(b"one\n\ntwo\n")
    assert (first.n, first.id, first.url) == (0, "line-000001", URL)
    assert json.loads(first.body) == {"messages": [{"role": "user", "content": "one"}]}
    assert (second.n, second.id) == (1, "line-000003")


def test_a_system_prompt_goes_before_every_line() -> None:
    (item,) = read(b"one", system="be brief")
    assert json.loads(item.body) == {
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one"}]
    }


@pytest.mark.parametrize(
    "data",
    [
        b"one\ntwo\n",
        b"one\ntwo",
        b"one\r\ntwo\r\n",
        b"one\r\ntwo",
        b"\xef\xbb\xbfone\ntwo\n",
        b"\xef\xbb\xbfone\r\ntwo",
    ],
)
def test_line_ends_a_byte_order_mark_and_a_missing_last_newline_change_nothing(data: bytes) -> None:
    assert prompts(data) == ["one", "two"]
    assert look(data).digest == look(b"one\ntwo\n").digest


def test_a_byte_order_mark_is_one_at_the_beginning_only() -> None:
    assert prompts(b"one\n\xef\xbb\xbftwo") == ["one", "\ufefftwo"]


def test_lines_of_nothing_but_space_are_skipped() -> None:
    assert [item.id for item in read(" \t\r\n\u00a0\n\u3000\nx\n \n".encode())] == ["line-000004"]


def test_only_a_newline_ends_a_line() -> None:
    assert prompts("a\u2028b\u0085c\x0bd\re\n".encode()) == ["a\u2028b\u0085c\x0bd\re"]


def test_space_around_a_prompt_is_kept() -> None:
    assert prompts(b"  x  \n") == ["  x  "]


def test_a_long_line_is_a_prompt_like_any_other() -> None:
    assert prompts(b"x" * 200_000 + b"\nshort") == ["x" * 200_000, "short"]


def test_a_line_at_the_limit_is_good_and_one_past_it_is_not() -> None:
    good, bad = b"x" * MAX_LINE, b"x" * (MAX_LINE + 1)
    assert look(b"a\n" + good + b"\r\nb").problem_count == 0
    assert whys(b"a\n" + bad + b"\nb\n\xff") == [
        (2, "longer than 32 MiB"),
        (4, "not UTF-8 (byte 0 is 0xff)"),
    ]


def test_what_is_not_utf_8_is_refused_with_its_line() -> None:
    assert whys(b"one\ncaf\xe9\nthree\n") == [(2, "not UTF-8 (byte 3 is 0xe9)")]


def test_utf_16_is_refused() -> None:
    assert whys("one\ntwo".encode("utf-16"))[0] == (1, "not UTF-8 (byte 0 is 0xff)")


def test_a_nul_byte_is_refused() -> None:
    assert whys(b"one\nt\0wo\n") == [(2, "a NUL byte is in it")]


@pytest.mark.parametrize("data", [b"", b"\n", b" \r\n\n\t", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
@pytest.mark.parametrize("format", ["auto", "text", "jsonl"])
def test_a_file_without_items_is_said_to_be_empty(data: bytes, format: str) -> None:
    assert whys(data, format=format) == [(0, "the file is empty: no line has anything in it")]


def test_a_prompt_may_hold_anything_that_json_must_escape() -> None:
    assert prompts(b'say "hi" \\ \x01\t\x7f\n') == ['say "hi" \\ \x01\t\x7f']
