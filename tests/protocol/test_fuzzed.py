"""Whatever bytes arrive at a socket: they are a message, or they are refused in words."""

from __future__ import annotations

import inspect
from contextlib import suppress
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiond.actors.base import decoded
from fusiond.errors import BadRequest
from fusiond.protocol import agents, approvals, batches, chat, control, sessions, tools
from fusiond.protocol.envelope import (
    Ack,
    Cancel,
    Chunk,
    Codec,
    Held,
    Register,
    Reply,
    Request,
    encode,
    from_actor,
    from_client,
    pack,
    to_actor,
    to_client,
    unpack,
)
from tests.corpus import corpus

CODECS = {
    "from_client": from_client,
    "from_actor": from_actor,
    "to_client": to_client,
    "to_actor": to_actor,
}
MODULES: tuple[ModuleType, ...] = (agents, approvals, batches, chat, control, sessions, tools)
ID = b"0123456789abcdef"
GOOD = [
    pack(encode(header), b"body")
    for header in (
        Request(ID, "agent", "chat", 1000, acks=[ID], origin=ID),
        Cancel(ID),
        Ack([ID, ID]),
        Register("llm.0", 3, [Held(ID, True)]),
        Chunk(ID, 7),
        Reply(ID, 2, 3),
    )
]


def structs() -> dict[str, type[msgspec.Struct]]:
    """Every struct that may be the body of a message."""
    found = (kind for module in MODULES for _, kind in inspect.getmembers(module, inspect.isclass))
    return {f"{kind.__module__}.{kind.__name__}": kind for kind in found if issubclass(kind, msgspec.Struct)}


BODIES = structs()
DECODERS = [msgspec.msgpack.Decoder(kind).decode for kind in BODIES.values()]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good message with some of its bytes replaced, left out or put in."""
    message = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(message) - 1)))
        message[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(message)


class Call:
    """As much of a call as decoding looks at."""

    verb = "verb"

    def __init__(self, body: bytes) -> None:
        self.body = body


def read(codec: Codec, message: bytes) -> object:
    """What the codec makes of a message; None for one that it refuses."""
    try:
        return codec.decode(unpack(message)[0])
    except msgspec.DecodeError:
        return None


def understood(body: bytes) -> None:
    """Every struct is made of the body, or refuses it."""
    for decode in DECODERS:
        call: Any = Call(body)
        with suppress(BadRequest):
            decoded(decode, call)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("message", corpus("message").values(), ids=corpus("message"))
def test_what_once_broke_a_decoder_of_messages_is_refused(codec: Codec, message: bytes) -> None:
    assert read(codec, message) is None


@given(message=st.binary(max_size=200))
def test_bytes_are_no_message_or_one(message: bytes) -> None:
    for codec in CODECS.values():
        read(codec, message)


@given(message=mutated())
def test_a_message_that_was_damaged_is_refused_or_another_one(message: bytes) -> None:
    for codec in CODECS.values():
        read(codec, message)


@pytest.mark.parametrize("body", corpus("body").values(), ids=corpus("body"))
def test_what_once_broke_a_decoder_of_bodies_is_a_bad_request(body: bytes) -> None:
    understood(body)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = sorted({field for kind in BODIES.values() for field in kind.__struct_fields__})


@given(body=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6))
def test_a_body_with_our_keys_and_any_values_is_understood_or_a_bad_request(body: dict[str, object]) -> None:
    understood(msgspec.msgpack.encode(body))


@given(body=st.binary(max_size=100))
def test_a_body_of_any_bytes_is_understood_or_a_bad_request(body: bytes) -> None:
    understood(body)
