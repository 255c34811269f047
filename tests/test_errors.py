"""Errors keep their class, words and exit code over the wire."""

from __future__ import annotations

import pytest

from fusiond.errors import BY_CODE, FusionError, from_wire
from fusiond.protocol.envelope import encode, failure, to_client


def classes(cls: type[FusionError]) -> list[type[FusionError]]:
    """`cls` and those below it that travel: the ones of `fusiond.errors`."""
    below = [child for child in cls.__subclasses__() if child.__module__ == cls.__module__]
    return [cls, *(found for child in below for found in classes(child))]


def test_every_class_has_a_code_of_its_own() -> None:
    assert len(BY_CODE) == len(classes(FusionError))


@pytest.mark.parametrize("cls", BY_CODE.values(), ids=BY_CODE)
def test_an_error_arrives_as_it_was_raised(cls: type[FusionError]) -> None:
    raised = cls("what is wrong", advice="what to do", retry_after=1.5)
    header = to_client.decode(encode(failure(b"i" * 16, raised)))
    arrived = header.error()  # type: ignore[union-attr]
    assert type(arrived) is cls
    assert (str(arrived), arrived.retry_after) == ("what is wrong — what to do", 1.5)


def test_a_code_from_a_newer_daemon_is_a_plain_error() -> None:
    assert type(from_wire("from_the_future", "hm")) is FusionError


def test_exit_codes_are_those_that_are_documented() -> None:
    assert {cls.exit_code for cls in BY_CODE.values()} <= {1, 2, 4, 5, 75, 77, 78, 124, 130}
