"""A file as a whole: ids, the report, the digest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fusiond.batches import MAX_PROBLEMS, items, repeats, survey
from fusiond.errors import UsageError

from .written import jsonl, look, openai, opener, read, whys


def test_an_id_given_twice_is_reported_where_it_is_repeated() -> None:
    data = jsonl(
        openai("a"), {"prompt": "x", "id": "b"}, {"prompt": "y", "id": "a"}, {"prompt": "z", "id": "a"}
    )
    assert whys(data) == [
        (3, 'the id "a" was given on line 1 already'),
        (4, 'the id "a" was given on line 1 already'),
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_a_given_id_must_not_be_one_that_another_line_gets(order: int) -> None:
    lines = [{"prompt": "gets its id"}, {"prompt": "x", "id": "line-000001" if order == 1 else "line-000002"}]
    assert whys(jsonl(*lines[::order])) == [
        (2, f'the id "{lines[1]["id"]}" was given on line 1 already'),
    ]
    assert len(read(jsonl(*lines[::-order]))) == 2


def test_ids_with_equal_hashes_are_not_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "hash", len, raising=False)
    same_hash = jsonl(*(openai(f"{n:03}") for n in range(15)))
    assert len(read(same_hash)) == 15
    assert whys(same_hash + jsonl(openai("000"))) == [(16, 'the id "000" was given on line 1 already')]


def test_every_bad_line_is_counted_and_the_first_are_told() -> None:
    data = b'{"prompt": "x"}\n' + b"5\n" * 30
    found = look(data)
    assert [problem.line for problem in found.problems] == list(range(2, 2 + MAX_PROBLEMS))
    assert found.problem_count == 30
    assert found.total == 1


def test_repeated_ids_and_bad_lines_are_told_together_in_the_order_of_the_file() -> None:
    line = openai("a")
    data = jsonl(line, line, 5, line, 5) + jsonl(*[line, 5] * 20)
    found = look(data)
    assert [problem.line for problem in found.problems] == list(range(2, 2 + MAX_PROBLEMS))
    assert found.problem_count == 44


def test_the_lines_are_opened_a_third_time_only_for_repeated_ids() -> None:
    opened = 0

    def counted(data: bytes) -> Iterator[bytes]:
        nonlocal opened
        opened += 1
        return opener(data)()

    for data, times in ((jsonl(openai("a"), openai("b"), 5), 2), (jsonl(openai("a"), openai("a")), 3)):
        opened = 0
        survey(lambda data=data: counted(data))  # type: ignore[misc]
        assert opened == times


def test_lines_may_come_without_their_ends() -> None:
    assert survey(lambda: [b"one", b"", b"two"]).digest == look(b"one\n\ntwo\n").digest


def test_the_same_items_have_the_same_digest_in_every_format() -> None:
    digests = {
        look(b"one\ntwo\n").digest,
        look(b"\xef\xbb\xbfone\r\ntwo").digest,
        look(jsonl({"prompt": "one"}, {"prompt": "two", "id": "line-000002"})).digest,
        look(
            b'{"body":{"messages":[{"role":"user","content":"one"}]},"custom_id":"line-000001"}\r\n{"prompt":"two"}'
        ).digest,
    }
    assert len(digests) == 1
    assert len(digests.pop()) == 64


def test_whatever_changes_an_item_changes_the_digest() -> None:
    base = {"prompt": "one", "id": "a"}
    files = [
        jsonl(base),
        jsonl({**base, "prompt": "two"}),
        jsonl({**base, "id": "b"}),
        jsonl({**base, "system": "s"}),
        jsonl({**base, "model": "m"}),
        jsonl(base, {**base, "id": "b"}),
        jsonl({**base, "id": "b"}, base),
        jsonl(openai("a")),
        jsonl(openai("a", url="/v1/x")),
        jsonl(openai("a", url="/v1/x/v1/x")),
        jsonl(openai("a/v1/x", url="/v1/x")),
    ]
    digests = [look(data).digest for data in files] + [look(files[0], system="t").digest]
    assert len(set(digests)) == len(digests)


def test_a_file_that_has_become_bad_since_is_noticed() -> None:
    with pytest.raises(UsageError, match=r"^line 2: not UTF-8.* — the file has changed"):
        list(items(opener(b"one\n\xff\n")))
