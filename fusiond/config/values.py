"""Whether a single value is of the type that its key wants, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from fusiond.config.naming import nearest
from fusiond.config.toml_text import toml_value

_BOUNDS = {">=": "at least", ">": "more than", "<=": "at most", "<": "less than"}
_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a table",
}


class Fault(NamedTuple):
    """What is wrong at `keys` below what was looked at. `message` goes on from the key's name."""

    keys: tuple[str, ...]
    message: str
    nearest: str | None = None


def value_faults(value: object, kind: Any) -> Iterator[Fault]:
    """Everything wrong with `value` as a `kind`; nothing where it is right."""
    bare, inner = _bare(kind), get_args(_bare(kind))
    if get_origin(bare) is dict and isinstance(value, dict):
        for key, one in value.items():
            for fault in value_faults(one, inner[1]):
                yield fault._replace(keys=(key, *fault.keys))
    elif get_origin(bare) is list and isinstance(value, list):
        for number, one in enumerate(value, 1):
            for fault in value_faults(one, inner[0]):
                yield fault._replace(message=f"item {number} {fault.message}")
    else:
        yield from _scalar_faults(value, kind)


def named(value: object) -> str:
    """What kind of value `value` is, in words; never the value itself, it may be a secret."""
    return _WORDS.get(type(value), "a date or time")


def _scalar_faults(value: object, kind: Any) -> Iterator[Fault]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        words = list(_literals(kind))
        if bound := re.search(r"` (>=|>|<=|<) (\S+)$", str(error)):
            yield Fault((), f"must be {_BOUNDS[bound[1]]} {float(bound[2]):g}, not {value}")
        elif words and isinstance(value, str):
            yield Fault((), f"must be {_wanted(kind)}, not {toml_value(value)}", nearest(value, words))
        else:
            yield Fault((), f"must be {_wanted(kind)}, not {named(value)}")


def _wanted(kind: Any) -> str:
    bare = _bare(kind)
    if _is_union(bare):
        return " or ".join(_wanted(one) for one in get_args(bare))
    if get_origin(bare) is Literal:
        words = [f'"{word}"' for word in get_args(bare)]
        return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
    return _WORDS[get_origin(bare) or bare]


def _literals(kind: Any) -> Iterator[str]:
    bare = _bare(kind)
    if _is_union(bare):
        for one in get_args(bare):
            yield from _literals(one)
    elif get_origin(bare) is Literal:
        yield from get_args(bare)


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def _bare(kind: Any) -> Any:
    """`kind` without its bounds and description."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind
