"""Server-sent events are understood however they are written and wherever they are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiond.errors import BadReply
from fusiond.providers import sse
from fusiond.providers.sse import Event, Parser


def parsed(*received: bytes) -> list[Event]:
    parser = Parser()
    return [event for data in received for event in parser.feed(data)]


def test_an_event_ends_with_a_blank_line() -> None:
    assert parsed(b"data: one\n") == []
    assert parsed(b"data: one\n\n") == [Event(b"", b"one")]


def test_several_data_lines_are_joined_by_newlines() -> None:
    assert parsed(b"data: one\ndata:two\ndata\n\n") == [Event(b"", b"one\ntwo\n")]


def test_only_one_space_after_the_colon_is_left_out() -> None:
    assert parsed(b"data:  one\n\n") == [Event(b"", b" one")]


def test_comments_ids_and_unknown_fields_give_nothing() -> None:
    assert parsed(b": keep-alive\n\nid: 7\nretry: 10\nnonsense\n\n") == []


def test_a_comment_inside_an_event_does_not_end_it() -> None:
    assert parsed(b"data: one\n: ping\ndata: two\n\n") == [Event(b"", b"one\ntwo")]


def test_an_event_has_its_own_name_only() -> None:
    assert parsed(b"event: ping\n\ndata: a\n\nevent: delta\ndata: b\n\ndata: c\n\n") == [
        Event(b"", b"a"),
        Event(b"delta", b"b"),
        Event(b"", b"c"),
    ]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_of_the_standard_is_known(newline: bytes) -> None:
    assert parsed(b"data: a\ndata: b\n\n".replace(b"\n", newline)) == [Event(b"", b"a\nb")]


def test_a_byte_order_mark_is_left_out() -> None:
    assert parsed(b"\xef\xbb\xbfdata: a\n\n") == [Event(b"", b"a")]


def test_an_event_still_open_at_the_end_is_void() -> None:
    assert parsed(b"data: a\n\ndata: b\n") == [Event(b"", b"a")]


STREAM = 'event: délta\r\ndata: {"text": "Grüße, 世界 🌍"}\r\n\r\n: ping\r\ndata: a\r\ndata: b\r\n\r\n'


@given(st.lists(st.integers(0, len(STREAM.encode())), max_size=8), st.sampled_from(["\n", "\r\n", "\r"]))
def test_cuts_change_nothing_not_even_inside_a_character_or_a_line_end(cuts: list[int], newline: str) -> None:
    data = STREAM.replace("\r\n", newline).encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert parsed(*(data[a:b] for a, b in pairwise(edges))) == parsed(data)


def test_a_stream_that_comes_byte_by_byte_is_understood() -> None:
    data = STREAM.encode()
    assert parsed(*(data[i : i + 1] for i in range(len(data)))) == [
        Event("délta".encode(), '{"text": "Grüße, 世界 🌍"}'.encode()),
        Event(b"", b"a\nb"),
    ]


@pytest.mark.parametrize("endless", [b"x" * 1000, b"data: " + b"x" * 993 + b"\n"])
def test_an_event_without_end_is_refused(endless: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LONGEST_EVENT", 10_000)
    with pytest.raises(BadReply, match="an event of more than"):
        parsed(*[endless] * 20)
