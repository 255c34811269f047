"""A file cut into lines while somebody may be writing it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiond.batches import MAX_LINE, cutting, lines, survey


def test_what_is_appended_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"one\ntwo\nthr")
    with path.open("rb") as file, path.open("ab") as writer:
        cut = lines(file, 11)
        assert next(cut) == b"one\n"
        writer.write(b"ee\nfour\n")
        writer.flush()
        assert list(cut) == [b"two\n", b"thr"]


def test_a_file_that_has_shrunk_ends_where_it_ends() -> None:
    assert list(lines(BytesIO(b"one\ntw"), 100)) == [b"one\n", b"tw"]


@given(
    data=st.binary(max_size=60) | st.text("ab\r\n", max_size=60).map(str.encode),
    size=st.none() | st.integers(0, 70),
)
def test_the_lines_together_are_the_bytes_that_were_asked_for(data: bytes, size: int | None) -> None:
    cut = list(lines(BytesIO(data), size))
    assert b"".join(cut) == data[:size]
    assert all(line.find(b"\n") == len(line) - 1 for line in cut[:-1])


@given(
    data=st.lists(st.integers(0, 40), max_size=6).map(lambda lengths: b"\n".join(b"x" * n for n in lengths)),
    size=st.none() | st.integers(0, 200),
)
def test_of_a_line_past_the_limit_only_the_beginning_comes(data: bytes, size: int | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "_KEPT", 10)
        patch.setattr(cutting, "_SKIPPED_AT_ONCE", 3)
        cut = list(lines(BytesIO(data), size))
    whole = BytesIO(data[:size]).readlines()
    assert cut == [line if len(line) <= 10 else line[:10] for line in whole]


def test_a_huge_line_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(8 * MAX_LINE)  # zeros that take no room on the disk
        file.seek(0, 2)
        file.write(b"\nlast\n")

    def opened() -> Iterator[bytes]:
        with path.open("rb") as file:
            yield from lines(file, None)

    tracemalloc.start()
    try:
        found = survey(opened)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [(problem.line, problem.why) for problem in found.problems] == [(1, "longer than 32 MiB")]
    assert found.total == 1
    assert peak < 3 * MAX_LINE
