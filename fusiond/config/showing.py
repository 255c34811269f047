"""The configuration in effect, for a person to read: in the file's shape, without anything secret."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from fusiond.config.schema import Config, in_file_shape

HIDDEN = "***"
_SECRET = re.compile(r"key|token|secret|passw|credential|auth|bearer", re.IGNORECASE)


def shown(config: Config) -> dict[str, Any]:
    """Plain tables that say what is in effect. Values that may be secret are HIDDEN, empty ones left out."""
    tables: dict[str, Any] = msgspec.to_builtins(config)
    tables["agents"] = in_file_shape(config.agents)
    tables["tools"] = in_file_shape(config.tools)
    for name in config.tools.configured:
        given = tables["tools"][name]
        tables["tools"][name] = {
            key: HIDDEN if _SECRET.search(key) else value for key, value in given.items()
        }
    for provider in tables["providers"].values():
        provider["base_url"] = _without_secrets(provider["base_url"])
    for server in tables["mcp"]["servers"].values():
        server["url"] = _without_secrets(server["url"])
        server["args"] = _arguments(server["args"])
        for key in ("env", "headers"):
            server[key] = dict.fromkeys(server[key], HIDDEN)
    for table in (*tables["providers"].values(), *tables["mcp"]["servers"].values()):
        for key in [key for key, value in table.items() if not value]:
            del table[key]
    return tables


def _without_secrets(url: str) -> str:
    """`url` without its user, password and query."""
    url = re.sub(r"^(\w+://)[^/?#]*@", rf"\1{HIDDEN}@", url)
    address, mark, _ = url.partition("?")
    return f"{address}?{HIDDEN}" if mark else url


def _arguments(args: list[str]) -> list[str]:
    """`args` with the value of `--token=…` and `--token …` hidden, and of URLs what they hide."""
    found = []
    secret_follows = False
    for arg in args:
        name, equals, _ = arg.partition("=")
        if secret_follows and not arg.startswith("-"):
            found.append(HIDDEN)
        elif equals and _SECRET.search(name):
            found.append(f"{name}={HIDDEN}")
        else:
            found.append(_without_secrets(arg) if "://" in arg else arg)
        secret_follows = not equals and arg.startswith("-") and bool(_SECRET.search(arg))
    return found
