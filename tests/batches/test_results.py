"""The lines that come out."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fusiond.batches import Failure, Response, result_line

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def test_an_answer_is_embedded_as_it_came() -> None:
    line = result_line("i", "a", Response(200, "r", b'{"x":1.50, "y":"\\u00e9"}'), None)
    assert line == (
        b'{"id":"i","custom_id":"a","response":{"status_code":200,"request_id":"r",'
        b'"body":{"x":1.50, "y":"\\u00e9"}},"error":null}'
    )


def test_an_error_stands_where_there_is_no_answer() -> None:
    line = result_line("i", "a", None, Failure("rate_limited", "too\nmany"))
    assert line == (
        b'{"id":"i","custom_id":"a","response":null,"error":{"code":"rate_limited","message":"too\\nmany"}}'
    )


def test_an_answer_of_several_lines_is_put_on_one() -> None:
    line = result_line("i", "a", Response(200, "r", b'{\r\n "x":\r1\n}\n'), None)
    assert b'"body":{   "x": 1 } }' in line


@given(
    id=st.text(),
    custom_id=st.text(),
    answer=st.none() | st.tuples(st.integers(100, 599), st.text(), JSON),
    failure=st.none() | st.tuples(st.text(), st.text()),
    layout=st.sampled_from([{}, {"indent": 2}, {"ensure_ascii": False}]),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_a_line_is_one_line_and_reads_back_the_same(
    id: str,
    custom_id: str,
    answer: tuple[int, str, Any] | None,
    failure: tuple[str, str] | None,
    layout: dict[str, Any],
    newline: str,
) -> None:
    response = None
    if answer:
        body = json.dumps(answer[2], **layout).replace("\n", newline)
        response = Response(answer[0], answer[1], body.encode())
    line = result_line(id, custom_id, response, Failure(*failure) if failure else None)
    assert len(line.splitlines()) == 1
    assert json.loads(line) == {
        "id": id,
        "custom_id": custom_id,
        "response": answer and dict(zip(("status_code", "request_id", "body"), answer, strict=True)),
        "error": failure and dict(zip(("code", "message"), failure, strict=True)),
    }
