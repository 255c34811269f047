"""A file far larger than what is kept of it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from fusiond.batches import Survey, survey

LINES = 300_000


def text(n: int) -> bytes:
    return b"what is %d?\n" % n


def all_sorts(n: int) -> bytes:
    """Of four lines one is short, two repeat each other's id, one is bad."""
    if n % 4 == 0:
        return b'{"prompt": "what is %d?"}\n' % n
    name = b"5" if n % 4 == 3 else b'"a rather long name for request number %d"' % (n // 4)
    return b'{"custom_id": %b, "body": {"messages": [{"role": "user", "content": "x"}]}}\n' % name


@pytest.mark.parametrize(("line", "problems"), [(text, 0), (all_sorts, LINES // 2)])
def test_of_an_item_16_bytes_are_kept(line: Callable[[int], bytes], problems: int) -> None:
    found, peak = _peak_of(lambda: survey(lambda: map(line, range(LINES))))
    assert found.problem_count == problems
    assert peak < LINES * 16 * 1.5 + 1_000_000


def _peak_of(work: Callable[[], Survey]) -> tuple[Survey, int]:
    tracemalloc.start()
    try:
        found = work()
        return found, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
