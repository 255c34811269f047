"""A line of plain text is a prompt, and a prompt a request to chat."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fusiond.protocol.chat import Message

CHAT = "/v1/chat/completions"


class Content(NamedTuple):
    """What one line asks for: `body`, a JSON object, is to be posted to `url`."""

    id: str
    url: str
    body: bytes


class BadLine(Exception):
    """The line is no item; the message says why and is read after "line 7: "."""


class _ChatBody(msgspec.Struct, omit_defaults=True):
    messages: list[Message]
    model: str = ""


_encode = msgspec.json.Encoder().encode


def text_line(text: str, number: int, system: str | None) -> Content:
    """The item that line `number`, not blank, stands for."""
    return Content(generated_id(number), CHAT, chat_body(text, system))


def generated_id(number: int) -> str:
    """The id of an item that names none: its line's number, so that it stays findable in the file."""
    return f"line-{number:06}"


def chat_body(prompt: str, system: str | None, model: str = "") -> bytes:
    """`{"messages": […], "model"}`; an empty or missing `system` and an empty `model` are left out."""
    messages = [Message("user", prompt)]
    if system:
        messages.insert(0, Message("system", system))
    return _encode(_ChatBody(messages, model))
