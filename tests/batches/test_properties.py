"""Whatever is written is read back; whatever bytes come, nothing breaks."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from fusiond.batches import items, survey

from .written import URL, opener, prompts, read

ENDS = st.sampled_from([b"\n", b"\r\n"])
MARKS = st.sampled_from([b"", b"\xef\xbb\xbf"])
LAYOUTS = st.fixed_dictionaries(
    {"ensure_ascii": st.booleans(), "separators": st.sampled_from([None, (",", ":"), (" ,\t", " : ")])}
)
PROMPTS = st.text(min_size=1).filter(lambda text: not text.isspace())
TEXT_PROMPTS = (
    st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), min_size=1)
    .map(lambda text: text.rstrip("\r"))
    .filter(lambda text: text and not text.isspace())
)
SHORT = st.fixed_dictionaries(
    {"prompt": PROMPTS}, optional={"system": st.text(), "model": st.text(min_size=1)}
)
OPENAI = st.fixed_dictionaries(
    {
        "body": st.fixed_dictionaries(
            {"messages": st.lists(st.dictionaries(st.text(), st.text()), min_size=1)},
            optional={
                "stream": st.just(False),
                "x": st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
            },
        )
    },
    optional={"method": st.just("POST"), "url": st.just(URL)},
)


def written(lines: list[bytes], end: bytes, mark: bytes, closed: bool) -> bytes:
    return mark + end.join(lines) + (end if closed else b"")


@given(texts=st.lists(TEXT_PROMPTS, min_size=1), end=ENDS, mark=MARKS, closed=st.booleans())
@example(texts=["\ufeff", "{"], end=b"\n", mark=b"\xef\xbb\xbf", closed=False)
def test_prompts_written_as_text_are_read_back(
    texts: list[str], end: bytes, mark: bytes, closed: bool
) -> None:
    if texts[0].startswith("\ufeff"):
        mark = b"\xef\xbb\xbf"  # else the prompt's own would be taken for it
    data = written([text.encode() for text in texts], end, mark, closed)
    assert prompts(data, format="text") == texts


@given(
    lines=st.lists(st.tuples(SHORT, st.booleans()) | st.tuples(OPENAI, st.none()), min_size=1, max_size=8),
    ids=st.lists(st.text(min_size=1, max_size=512), min_size=8, max_size=8, unique=True),
    system=st.none() | st.text(),
    end=ENDS,
    mark=MARKS,
    closed=st.booleans(),
    layout=LAYOUTS,
)
def test_items_written_as_jsonl_are_read_back(
    lines: list[tuple[dict[str, Any], bool | None]],
    ids: list[str],
    system: str | None,
    end: bytes,
    mark: bytes,
    closed: bool,
    layout: dict[str, Any],
) -> None:
    expected, encoded = [], []
    for number, ((line, named), id) in enumerate(zip(lines, ids, strict=False), 1):
        if "body" in line:
            line = {**line, "custom_id": id}
            body = line["body"]
        else:
            first = line.get("system", system)
            before = [{"role": "system", "content": first}] if first else []
            body = {"messages": [*before, {"role": "user", "content": line["prompt"]}]}
            if "model" in line:
                body["model"] = line["model"]
            if named:
                line = {**line, "id": id}
            else:
                id = f"line-{number:06d}"
        expected.append((number - 1, id, URL, body))
        encoded.append(json.dumps(line, **layout).encode())
    found = read(written(encoded, end, mark, closed), system=system)
    assert [(item.n, item.id, item.url, json.loads(item.body)) for item in found] == expected


JSON_FRAGMENTS = (
    '{"prompt": "prompt" {"custom_id": "custom_id" "a" "body": {"messages":[{}]} "id": "stream":'
    ' true 1e999 \\ud800 , : { } [ ] {"prompt":"x"} {"prompt":"x","id":"line-000002"}'
    ' {"custom_id":"a","body":{"messages":[{}]}}'
)
OTHER_FRAGMENTS = [b"\n", b"\r", b" ", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80"]
FRAGMENTS = st.sampled_from([*JSON_FRAGMENTS.encode().split(), *OTHER_FRAGMENTS])


@given(
    data=st.lists(FRAGMENTS | st.binary(max_size=4), max_size=30).map(b"".join),
    format=st.sampled_from(["auto", "text", "jsonl"]),
)
def test_whatever_the_bytes_there_are_problems_or_items(data: bytes, format: Any) -> None:
    found = survey(opener(data), format=format)
    assert format in ("auto", found.format)
    assert len(found.problems) == min(found.problem_count, 20)
    numbers = [problem.line for problem in found.problems]
    assert numbers == sorted(set(numbers))
    if found.problem_count == 0:
        all_items = list(items(opener(data), format=found.format))
        assert [item.n for item in all_items] == list(range(found.total))
        assert len({item.id for item in all_items}) == found.total > 0
        assert all(isinstance(json.loads(item.body), dict) for item in all_items)
