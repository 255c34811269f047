"""What a worker leaves out of a result that is too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fusiond.protocol.tools import Content, ToolOutcome
from fusiond.tools.worker import bounded, cut_in_the_middle

_ANY_TEXT = st.text(st.characters(), max_size=300)  # surrogates too


@given(_ANY_TEXT, st.integers(10, 200))
def test_beginning_and_end_stay_and_what_is_left_out_is_counted(text: str, most: int) -> None:
    whole = text.encode("utf-8", "replace")
    kept, cut = cut_in_the_middle(text, most)
    if len(whole) <= most:
        assert (kept.encode(), cut) == (whole, 0)
        return
    head, _, tail = kept.partition(f"\n… {cut:,} bytes left out …\n")
    assert whole.startswith(head.encode())
    assert whole.endswith(tail.encode())
    assert len(head.encode()) + cut + len(tail.encode()) == len(whole)
    assert len(whole) - cut <= most
    assert len(whole) - cut > most - 9  # no more is lost than characters that would be torn apart


def test_content_beside_the_text_is_sent_up_to_a_bound() -> None:
    image = Content(type="image", data="x" * 1_000_000, mime_type="image/png")
    few = bounded(ToolOutcome(kind="ok", text="see", content=[image] * 4), 1000)
    assert (len(few.content), few.cut) == (4, 0)
    many = bounded(ToolOutcome(kind="ok", text="see", content=[image] * 5), 1000)
    assert (many.content, many.cut) == ([], 5_000_000)
    assert "5,000,000 bytes of data left out" in many.text
