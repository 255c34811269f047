"""Finds all that is wrong with a configuration, each with its key, its line and the nearest right name."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from fusiond.config.lines import key_lines
from fusiond.config.naming import dotted, is_section, named_tables, nearest_key
from fusiond.config.rules import RULES, model_faults, name_faults
from fusiond.config.schema import (
    ACTOR_KINDS,
    FREE_TABLES,
    Config,
    Section,
    in_struct_shape,
)
from fusiond.config.values import Fault, named, value_faults

_UNKNOWN = Fault((), "is unknown")


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong.

    `key` is dotted, "" for the file as a whole; `line` counts from 1; `nearest` is the right name or word.
    """

    key: str
    line: int | None
    message: str
    nearest: str | None = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.message}" + (f" (did you mean {self.nearest}?)" if self.nearest else "")


def check(text: str) -> list[Problem]:
    """Every problem of the file `text`, in the order of its lines."""
    return parse(text)[1]


def parse(text: str) -> tuple[dict[str, Any], list[Problem]]:
    """The tables of the file `text` as they stand in it, and every problem of theirs."""
    import tomllib

    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        return {}, [_syntax(str(error), text)]
    faults = [*_in_section(raw, Config, ""), *_in_model(raw)]
    lines = key_lines(text) if faults else {}
    return raw, sorted((_placed(fault, lines) for fault in faults), key=lambda problem: problem.line or 0)


def _syntax(error: str, text: str) -> Problem:
    line = re.search(r"\(at line (\d+)", error)
    words = re.sub(r" \(at .*\)$", "", error)
    return Problem("", int(line[1]) if line else _last(text), f"this is not TOML: {words}")


def _last(text: str) -> int:
    return text.rstrip("\n").count("\n") + 1


def _placed(fault: Fault, lines: Mapping[tuple[str, ...], int]) -> Problem:
    key = dotted(fault.keys)
    prefixes = (fault.keys[:length] for length in range(len(fault.keys), 0, -1))
    line = next((lines[path] for path in prefixes if path in lines), None)
    if fault.message == _UNKNOWN.message:
        return Problem(key, line, f"unknown key {key}", nearest_key(fault.keys))
    return Problem(key, line, f"{key} {fault.message}", fault.nearest)


def _below(key: str, faults: Iterator[Fault]) -> Iterator[Fault]:
    return (fault._replace(keys=(key, *fault.keys)) for fault in faults)


def _in_section(raw: object, kind: type[Section], name: str) -> Iterator[Fault]:
    """Faults of a table that a struct describes: of its values, and if each is right, of how they fit."""
    if not isinstance(raw, dict):
        yield Fault((), f"must be a table, not {named(raw)}")
        return
    faults = [fault for key, value in raw.items() for fault in _below(key, _in_field(key, value, kind))]
    yield from faults
    if not faults and kind in RULES:
        yield from RULES[kind](name, msgspec.convert(in_struct_shape(kind, raw), kind), raw)


def _in_field(key: str, value: object, kind: type[Section]) -> Iterator[Fault]:
    types = {one.name: one.type for one in msgspec.structs.fields(kind)}
    gathered = types.pop(FREE_TABLES.get(kind, ""), None)
    if key not in types and gathered is not None and isinstance(value, dict):
        yield from (
            _in_table(value, named_tables(gathered), key) if named_tables(gathered) else name_faults(key)
        )
    elif key not in types:
        yield _UNKNOWN
    elif is_section(types[key]):
        yield from _in_section(value, types[key], key)
    elif inner := named_tables(types[key]):
        yield from _in_named(value, inner, ACTOR_KINDS if key == "actors" else None)
    else:
        yield from value_faults(value, types[key])


def _in_named(raw: object, kind: type[Section], names: Collection[str] | None) -> Iterator[Fault]:
    """Faults of a table of tables: of the given `names`, or free ones."""
    if not isinstance(raw, dict):
        yield Fault((), f"must be a table, not {named(raw)}")
        return
    for name, table in raw.items():
        wanted = kind if names is None or name in names else None
        yield from _below(name, _in_table(table, wanted, name))


def _in_table(table: object, kind: type[Section] | None, name: str) -> Iterator[Fault]:
    """Faults of one named table; `kind` is None where no such name may be."""
    if kind is None:
        yield _UNKNOWN
    elif faults := list(name_faults(name)):
        yield from faults
    else:
        yield from _in_section(table, kind, name)


def _in_model(raw: Mapping[str, Any]) -> Iterator[Fault]:
    model, providers = raw.get("model", ""), raw.get("providers", {})
    if isinstance(model, str) and model:
        yield from _below("model", model_faults(model, providers if isinstance(providers, dict) else ()))
