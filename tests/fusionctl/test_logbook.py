from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fusionctl.logbook import Filter, Reader, line, since
from fusiond.errors import UsageError

NOW = datetime(2026, 11, 22, 13, 0, 0, tzinfo=UTC)
LINES = [
    "2026-11-22T12:00:00.000Z INFO    begun",
    "2026-11-22T12:30:00.000Z ERROR   request 0192ab failed",
    "Traceback: of it",
    "2026-11-22T12:59:00.000Z DEBUG   well",
]


def shown(wanted: Filter) -> list[str]:
    return [line(entry, 0) for entry in Reader("llm.0", wanted).read(LINES)]


def test_without_a_filter_every_line_is_shown_as_it_is() -> None:
    assert shown(Filter()) == LINES


def test_a_line_without_a_stamp_shares_the_fate_of_the_one_before() -> None:
    assert shown(Filter(level="ERROR")) == LINES[1:3]
    assert shown(Filter(level="INFO")) == LINES[:3]
    assert shown(Filter(request="0192ab")) == LINES[1:3]
    assert shown(Filter(since="2026-11-22T12:31")) == LINES[3:]


def test_lines_before_the_first_stamp_are_shown_only_without_a_filter() -> None:
    assert list(Reader("x", Filter(level="INFO")).read(["raw"])) == []
    assert [entry.text for entry in Reader("x", Filter()).read(["raw"])] == ["raw"]


def test_entries_of_several_actors_carry_their_names() -> None:
    entries = list(Reader("llm.0", Filter()).read(LINES[1:3]))
    assert line(entries[0], 8) == "2026-11-22T12:30:00.000Z llm.0    ERROR   request 0192ab failed"
    assert line(entries[1], 8) == f"{'':24} llm.0    Traceback: of it"


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("10m", "2026-11-22T12:50:00.000Z"),
        ("90 s", "2026-11-22T12:58:30.000Z"),
        ("1.5h", "2026-11-22T11:30:00.000Z"),
        ("2 d ago", "2026-11-20T13:00:00.000Z"),
        ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00.000Z"),
        ("2026-11-22T10:00+02:00", "2026-11-22T08:00:00.000Z"),
    ],
)
def test_times_may_be_relative_or_absolute(text: str, at: str) -> None:
    assert since(text, NOW) == at


def test_what_is_no_time_is_refused_with_examples() -> None:
    with pytest.raises(UsageError, match=r"'yesterdayish' is no time — write 30s, 10m"):
        since("yesterdayish", NOW)
