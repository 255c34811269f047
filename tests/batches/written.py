"""Batch files as people and programs write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

from fusiond.batches import Item, Survey, items, lines, survey

URL = "/v1/chat/completions"


def opener(data: bytes) -> Callable[[], Iterator[bytes]]:
    """Gives the file's lines anew each time."""
    return lambda: lines(BytesIO(data), len(data))


def jsonl(*objects: Any) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


def openai(custom_id: Any = "a", **changes: Any) -> dict[str, Any]:
    """A line as OpenAI documents it; `changes` replace keys of the line."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    return {"custom_id": custom_id, "method": "POST", "url": URL, "body": body, **changes}


def look(data: bytes, **options: Any) -> Survey:
    return survey(opener(data), **options)


def read(data: bytes, **options: Any) -> list[Item]:
    """The items of a file that is good."""
    found = look(data, **options)
    assert found.problems == []
    assert found.problem_count == 0
    all_items = list(items(opener(data), **options))
    assert found.total == len(all_items)
    return all_items


def prompts(data: bytes, **options: Any) -> list[str]:
    """What the user says in each item."""
    return [json.loads(one.body)["messages"][-1]["content"] for one in read(data, **options)]


def whys(data: bytes, **options: Any) -> list[tuple[int, str]]:
    """What is wrong with a file that is not good."""
    found = look(data, **options)
    assert found.problem_count > 0
    return [(problem.line, problem.why) for problem in found.problems]
