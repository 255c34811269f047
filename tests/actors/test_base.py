"""What actors share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from fusiond.actors.base import Call, decoded
from fusiond.errors import BadRequest
from fusiond.protocol.tools import ToolName


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", b"\x91\x01", b"\x81\xa4name\xa2\xff\xfe"],
    ids=["empty", "no msgpack", "a number", "no UTF-8"],
)
def test_a_body_that_is_none_of_the_kind_is_a_bad_request(body: bytes) -> None:
    call = cast(Call, SimpleNamespace(verb="show", body=body))
    with pytest.raises(BadRequest, match="show does not understand its request"):
        decoded(msgspec.msgpack.Decoder(ToolName).decode, call)
