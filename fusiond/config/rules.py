"""What no single value shows: how the keys of one table must fit each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fusiond.config.naming import nearest
from fusiond.config.schema import (
    BUILT_IN_PROVIDERS,
    FUSION_SERVER,
    LOCAL,
    ActorSettings,
    AgentsSettings,
    McpServer,
    ProviderSettings,
    Section,
    SupervisorSettings,
    ToolsSettings,
)
from fusiond.config.toml_text import toml_value
from fusiond.config.values import Fault

Given = Mapping[str, Any]
"""The table as it stands in the file, without defaults."""

Rule = Callable[[str, Any, Given], Iterator[Fault]]
"""Yields what is wrong with a table of this name, each value of which is right by itself."""


def name_faults(name: str) -> Iterator[Fault]:
    """What is wrong with a name that a person gave: it becomes part of actors', files' and models' names."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        yield Fault((), "is no name: up to 64 letters, digits, - and _")


def model_faults(model: str, providers: Iterable[str]) -> Iterator[Fault]:
    """What is wrong with the name of a model, `provider/name`."""
    known = sorted({*providers, *BUILT_IN_PROVIDERS, LOCAL})
    provider, slash, name = model.partition("/")
    if not slash or not provider or not name:
        yield Fault((), f"must be written provider/name, not {toml_value(model)}")
    elif provider not in known:
        near = nearest(provider, known)
        yield Fault(
            (),
            f"names no provider: there is no {toml_value(provider)}, only {', '.join(known)}",
            f"{near}/{name}" if near else None,
        )


def url_fault(url: str) -> str | None:
    """What is wrong with the URL, None if nothing. Does not repeat it: it may hold a password."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"\s", url):
        return "must be a URL such as http://127.0.0.1:8000/v1"
    return None


def _supervisor(_name: str, table: SupervisorSettings, given: Given) -> Iterator[Fault]:
    if table.heartbeat_timeout_ms > table.heartbeat_interval_ms:
        return
    if "heartbeat_timeout_ms" in given:
        interval = table.heartbeat_interval_ms
        yield Fault(
            ("heartbeat_timeout_ms",), f"must be more than heartbeat_interval_ms, which is {interval}"
        )
    else:
        timeout = table.heartbeat_timeout_ms
        yield Fault(("heartbeat_interval_ms",), f"must be less than heartbeat_timeout_ms, which is {timeout}")


def _actor(name: str, table: ActorSettings, _given: Given) -> Iterator[Fault]:
    if name in ("router", "store") and table.replicas != 1:
        yield Fault(("replicas",), f"must be 1, there is one {name} only")
    elif name in ("llm", "agent") and table.replicas < 1:
        yield Fault(("replicas",), "must be at least 1, nothing is answered without it")


def _provider(name: str, table: ProviderSettings, given: Given) -> Iterator[Fault]:
    if name == LOCAL:
        yield Fault((), "cannot be configured: it is the embedded model")
        return
    built_in = BUILT_IN_PROVIDERS.get(name)
    if built_in and given.get("kind", built_in.kind) != built_in.kind:
        yield Fault(("kind",), f'must be "{built_in.kind}" here; give one of another kind another name')
    if table.base_url:
        if fault := url_fault(table.base_url):
            yield Fault(("base_url",), fault)
    elif not built_in:
        yield Fault(("base_url",), "is missing: where is this provider's API?")
    if table.api_key_env and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", table.api_key_env):
        yield Fault(("api_key_env",), "must be the name of an environment variable, not the key itself")
    if table.api_key_env and table.api_key_file:
        yield Fault(("api_key_file",), "stands beside api_key_env: give one of them")


def _mcp_server(name: str, table: McpServer, given: Given) -> Iterator[Fault]:
    if name == FUSION_SERVER and (table.command or table.url):
        yield Fault((), "is the name of the server that is always there: give this one another")
    elif name == FUSION_SERVER:
        return
    elif not table.command and not table.url:
        yield Fault((), "has neither command nor url")
    elif table.command and table.url:
        yield Fault(("url",), "stands beside command: give one of them")
    else:
        foreign = ("headers",) if table.command else ("args", "env", "cwd")
        for key in foreign:
            if key in given:
                yield Fault((key,), f"makes no sense with {'command' if table.command else 'url'}")
    if table.url and (fault := url_fault(table.url)):
        yield Fault(("url",), fault)


def _modules(_name: str, table: ToolsSettings | AgentsSettings, _given: Given) -> Iterator[Fault]:
    for module in table.modules:
        if not all(part.isidentifier() for part in module.split(".")):
            yield Fault(("modules",), f"must hold names of Python modules, and {toml_value(module)} is none")


RULES: Mapping[type[Section], Rule] = {
    SupervisorSettings: _supervisor,
    ActorSettings: _actor,
    ProviderSettings: _provider,
    McpServer: _mcp_server,
    ToolsSettings: _modules,
    AgentsSettings: _modules,
}
