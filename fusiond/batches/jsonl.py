"""A line of JSONL is an OpenAI Batch line or a short one: `prompt` makes it short, else `custom_id` makes it OpenAI's.

The decoders below judge; only a line that they refuse is looked at again, to say in words what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from fusiond.batches.text import CHAT, BadLine, Content, chat_body, generated_id

_Id = Annotated[str, Meta(min_length=1, max_length=512)]


class _ShortLine(msgspec.Struct, forbid_unknown_fields=True):
    prompt: str
    id: _Id | UnsetType = UNSET
    system: str | UnsetType = UNSET
    model: Annotated[str, Meta(min_length=1)] | UnsetType = UNSET


class _OpenAILine(msgspec.Struct):
    custom_id: _Id
    body: Raw
    method: Literal["POST"] = "POST"
    url: Annotated[str, Meta(pattern="^/v1/")] = CHAT
    prompt: object = UNSET


class _Body(msgspec.Struct):
    stream: bool | None = None


class _ChatBody(_Body, kw_only=True):
    messages: Annotated[list[Raw], Meta(min_length=1)]


_RULES = {
    "prompt": "must be a string and not blank",
    "id": "must be a string of 1 to 512 characters",
    "system": "must be a string",
    "model": "must be a string and not empty",
    "custom_id": "must be a string of 1 to 512 characters",
    "method": 'must be "POST"',
    "url": 'must be a string that begins with "/v1/"',
    "body": "must be an object",
    "messages": "must be a list and not empty",
    "stream": "must be false or left out: a batch streams nothing",
}

_short = msgspec.json.Decoder(_ShortLine)
_openai = msgspec.json.Decoder(_OpenAILine)
_body = msgspec.json.Decoder(_Body)
_chat_body = msgspec.json.Decoder(_ChatBody)
_object = msgspec.json.Decoder(dict[str, Raw])


def is_item(text: str) -> bool:
    """Whether the line, as the first of a file, makes it a file of JSONL."""
    try:
        given = _object.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return "prompt" in given or "custom_id" in given


def json_line(text: str, number: int, system: str | None) -> Content:
    """The item on line `number`; `system` is for short lines that have none of their own. Raises BadLine."""
    try:
        line = _decoded(text)
        if isinstance(line, _OpenAILine):
            return Content(line.custom_id, line.url, _checked(line.body, line.url))
    except msgspec.ValidationError as error:
        raise BadLine(_in_words(error)) from None
    except msgspec.DecodeError as error:
        raise BadLine(f"not JSON ({str(error).removeprefix('JSON is malformed: ')})") from None
    except RecursionError:
        raise BadLine("nested too deeply") from None
    if not line.prompt or line.prompt.isspace():
        raise BadLine(_rule("prompt"))
    own_id = generated_id(number) if line.id is UNSET else line.id
    own_system = system if line.system is UNSET else line.system
    return Content(
        own_id, CHAT, chat_body(line.prompt, own_system, "" if line.model is UNSET else line.model)
    )


def _decoded(text: str) -> _ShortLine | _OpenAILine:
    try:
        if '"custom_id"' not in text:
            return _short.decode(text)
        line = _openai.decode(text)
        if line.prompt is UNSET:
            return line
    except msgspec.DecodeError:
        pass
    return _of_the_form_it_means(text)


def _of_the_form_it_means(text: str) -> _ShortLine | _OpenAILine:
    """Refuses what the quick look refused, for the right reason, unless that took one form for the other."""
    try:
        given = _object.decode(text)
    except msgspec.ValidationError:
        raise BadLine("not an object") from None
    if "prompt" in given:
        _refuse_unknown(given, _ShortLine.__struct_fields__)
        return _short.decode(text)
    if "custom_id" in given:
        return _openai.decode(text)
    _refuse_unknown(given, [*_ShortLine.__struct_fields__, *_OpenAILine.__struct_fields__])
    raise BadLine('neither "prompt" nor "custom_id"')


def _checked(body: Raw, url: str) -> bytes:
    """The body as it stood in the line."""
    try:
        decoded = (_chat_body if url == CHAT else _body).decode(body)
    except msgspec.ValidationError as error:
        raise BadLine(_in_words(error, of="body")) from None
    if decoded.stream:
        raise BadLine(_rule("stream"))
    return bytes(body)


def _refuse_unknown(given: Iterable[str], known: Iterable[str]) -> None:
    from difflib import get_close_matches

    for key in given:
        if key not in known:
            near = get_close_matches(key[:100].lower(), known, n=1)
            advice = (
                f'did you mean "{near[0]}"?' if near else f"the keys are {', '.join(dict.fromkeys(known))}"
            )
            raise BadLine(f"unknown key {quoted(key)}; {advice}")


def _in_words(error: msgspec.ValidationError, of: str = "") -> str:
    """`of`: the key whose value was decoded."""
    if missing := re.search(r"missing required field `(\w+)`", str(error)):
        return f'"{missing[1]}" is missing'
    if at := re.search(r"at `\$\.(\w+)", str(error)):
        return _rule(at[1])
    return _rule(of)


def _rule(key: str) -> str:
    return f'"{key}" {_RULES[key]}'


def quoted(name: str) -> str:
    """In quotes, on one line, safe for a terminal, and cut if it is long."""
    return msgspec.json.encode(name if len(name) <= 60 else f"{name[:60]}…").decode()
