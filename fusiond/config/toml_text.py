"""Writes TOML: tables, text, numbers, true and false, and lists of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def to_toml(table: Mapping[str, Any]) -> str:
    """The text of a TOML file that holds `table`."""
    return "\n\n".join(block for block in _blocks(table, "") if block) + "\n"


def toml_value(value: object) -> str:
    """A value as TOML writes it, on one line. Whole numbers lose their `.0`."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(one) for one in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{toml_key(key)} = {toml_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str):  # JSON's escapes are TOML's, but for DEL, which TOML wants escaped
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def toml_key(key: str) -> str:
    """A key, in quotes where it needs them."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_value(key)


def _blocks(table: Mapping[str, Any], name: str) -> list[str]:
    values = [
        f"{toml_key(key)} = {toml_value(one)}" for key, one in table.items() if not isinstance(one, Mapping)
    ]
    tables = {key: one for key, one in table.items() if isinstance(one, Mapping)}
    header = [f"[{name}]"] if name and (values or not tables) else []
    blocks = ["\n".join(header + values)]
    for key, one in tables.items():
        blocks += _blocks(one, f"{name}.{toml_key(key)}" if name else toml_key(key))
    return blocks
