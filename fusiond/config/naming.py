"""What somebody may have meant who wrote a key that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, get_args, get_origin

import msgspec

from fusiond.config.schema import ACTOR_KINDS, FREE_TABLES, Config, Section
from fusiond.config.toml_text import toml_key

Path = tuple[str, ...]
FREE = "NAME"


def dotted(path: Iterable[str]) -> str:
    """A key's path as TOML writes it."""
    return ".".join(toml_key(part) for part in path)


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The one of `words` most like `word`, None if none is; capitals, dashes and underscores aside."""
    from difflib import get_close_matches

    by_letters = {_letters(one): one for one in words}
    found = get_close_matches(_letters(word), by_letters, n=1, cutoff=0.6)
    return by_letters[found[0]] if found else None


def nearest_key(path: Path) -> str | None:
    """The key that was meant by the unknown `path`, dotted: one of the same table, else one of another."""
    whole, last = _letters("".join(path)), _letters(path[-1])
    for key in known_keys():
        if whole == _letters("".join(key)):
            return dotted(key)
    here = [key[-1] for key in known_keys() if key[-1] != FREE and _same(key[:-1], path[:-1])]
    if found := nearest(path[-1], here):
        return dotted((*path[:-1], found))
    if path[:-1] == ("mcp",):
        return dotted(("mcp", "servers", path[-1]))
    return next((dotted(key) for key in known_keys() if last == _letters(key[-1])), None)


@cache
def known_keys() -> tuple[Path, ...]:
    """The path of every key and table there is; FREE stands where a name is free."""
    return tuple(_keys_of(Config, ()))


def named_tables(kind: Any) -> type[Section] | None:
    """What each table is if `kind` is a table of tables with free names, else None."""
    if get_origin(kind) is not dict:
        return None
    inner = get_args(kind)[1]
    return inner if isinstance(inner, type) and issubclass(inner, Section) else None


def is_section(kind: Any) -> bool:
    """Whether `kind` is a table that a struct describes."""
    return isinstance(kind, type) and issubclass(kind, Section)


def _keys_of(kind: type[Section], path: Path) -> Iterator[Path]:
    for one in msgspec.structs.fields(kind):
        here = path if one.name == FREE_TABLES.get(kind) else (*path, one.name)
        if here != path:
            yield here
        if is_section(one.type):
            yield from _keys_of(one.type, here)
        elif inner := named_tables(one.type):
            for name in ACTOR_KINDS if here == ("actors",) else (FREE,):
                yield (*here, name)
                yield from _keys_of(inner, (*here, name))


def _same(known: Path, path: Path) -> bool:
    return len(known) == len(path) and all(a in (b, FREE) for a, b in zip(known, path, strict=True))


def _letters(word: str) -> str:
    return re.sub(r"[-_. ]", "", word).lower()
