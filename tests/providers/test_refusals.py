"""What an API's error bodies mean, whatever their shape."""

from __future__ import annotations

import pytest

from fusiond.errors import (
    BadRequest,
    ContentRefused,
    ContextTooLong,
    Denied,
    FusionError,
    ProviderDown,
    RateLimited,
    UnknownModel,
)
from fusiond.providers.refusals import Api, read, refused

API = Api("lab", "http://h/v1", "LAB_KEY", "hunter2-hunter2")

BODIES: list[tuple[int, bytes, type[FusionError]]] = [
    (400, b'{"error": {"message": "m", "code": "context_length_exceeded"}}', ContextTooLong),
    (400, b'{"error": {"code": 400, "message": "m", "type": "exceed_context_size_error"}}', ContextTooLong),
    (
        400,
        b'{"object": "error", "message": "This model\'s maximum context length is 4096 tokens."}',
        ContextTooLong,
    ),
    (413, b"", ContextTooLong),
    (404, b'{"error": {"message": "model \\"x\\" not found, try pulling it first"}}', UnknownModel),
    (400, b'{"error": {"message": "invalid", "code": "model_not_found"}}', UnknownModel),
    (
        400,
        b'{"error": {"message": "m", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}',
        ContentRefused,
    ),
    (402, b'{"error": {"message": "Insufficient Balance"}}', Denied),
    (429, b'[{"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}]', RateLimited),
    (422, b'{"detail": [{"loc": ["body", "temperature"], "msg": "too large"}]}', BadRequest),
    (400, b'{"error": "temperature is too large"}', BadRequest),
    (400, b"temperature is too large", BadRequest),
    (503, b"<html>Service Unavailable</html>", ProviderDown),
    (529, b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}', ProviderDown),
]


@pytest.mark.parametrize(("status", "body", "kind"), BODIES)
def test_every_shape_of_error_is_recognised(status: int, body: bytes, kind: type[FusionError]) -> None:
    assert type(refused(API, "x", status, {}, read(body))) is kind


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"null",
        b'{"error": null}',
        b'{"error": 7}',
        b'{"error": {"message": {"a": [1]}}}',
        b"\xff",
    ],
)
@pytest.mark.parametrize("status", [300, 400, 404, 418, 429, 500])
def test_no_body_is_too_odd(status: int, body: bytes) -> None:
    assert "\n" not in str(refused(API, "x", status, {}, read(body)))


@pytest.mark.parametrize("shown", ["hunter2-hunter2", "sk-abcd***wxyz", "key-0123456789"])
@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
def test_neither_the_key_nor_what_looks_like_a_part_of_one_is_repeated(status: int, shown: str) -> None:
    said = str(
        refused(API, "x", status, {}, read(b'{"error": {"message": "you sent %s, sorry"}}' % shown.encode()))
    )
    assert shown not in said
    assert "wxyz" not in said


def test_long_words_are_cut_and_stay_on_one_line() -> None:
    said = str(refused(API, "x", 400, {}, read(b'{"error": "' + b"no\\nway " * 500 + b'"}')))
    assert len(said) < 400
    assert "\n" not in said


def test_what_it_asks_to_wait_comes_with_the_error() -> None:
    error = refused(API, "x", 503, {"retry-after": "7"}, read(b""))
    assert error.retry_after == 7
