from __future__ import annotations

import pytest

from fusionctl.text import cut, end_of, safe


@pytest.mark.parametrize(
    ("text", "columns", "end"),
    [
        ("", 10, (0, 0)),
        ("abc", 10, (0, 3)),
        ("a\nb\n", 10, (2, 0)),
        ("0123456789", 10, (0, 10)),
        ("0123456789a", 10, (1, 1)),
        ("日本語日本語", 10, (1, 2)),
        ("012345678日", 10, (1, 2)),
        ("e\u0301", 10, (0, 1)),
        ("a\tb", 20, (0, 9)),
    ],
)
def test_where_the_cursor_stands_after_a_text(text: str, columns: int, end: tuple[int, int]) -> None:
    assert end_of(text, columns) == end


def test_a_long_line_is_cut_to_the_columns_and_styles_take_none() -> None:
    assert cut("✅ abc", 4) == "✅ a"
    assert cut("abc", 3) == "abc"
    assert cut("\x1b[31mabcdef\x1b[0m", 3) == "\x1b[31mabc\x1b[0m"


def test_a_model_cannot_move_the_cursor() -> None:
    assert safe("a\x1b]0;title\x07b\x9b2J\nc\td\r") == "a]0;titleb2J\nc\td"
