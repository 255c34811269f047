"""TOML → validated structs. Every default stands in `schema`, once.

- `schema`: the structs, their defaults, bounds and meanings
- `checking`: all that is wrong with a file; with `values` (one value), `rules` (values together),
  `naming` (what was meant), `lines` (where it stands)
- `loading`: file, environment and defaults → `Config`
- `keys`: the providers' keys, which are never part of it
- `sample`, `showing`, `toml_text`: the file that `config init` writes, and what `config show` shows
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fusiond.config.keys import resolve_keys
from fusiond.config.loading import load, read_text
from fusiond.config.schema import (
    ACTOR_KINDS,
    BUILT_IN_PROVIDERS,
    EMBEDDED_MODEL,
    FUSION_SERVER,
    LOCAL,
    ActorSettings,
    AgentDefinition,
    AgentsSettings,
    Config,
    LogLevel,
    McpServer,
    McpSettings,
    ProviderSettings,
    RouterSettings,
    SessionSettings,
    ShellSettings,
    SupervisorSettings,
    ToolsSettings,
)

if TYPE_CHECKING:
    from fusiond.config.checking import Problem, check
    from fusiond.config.sample import DEFAULT_TOML
    from fusiond.config.showing import shown
    from fusiond.config.toml_text import to_toml

_LATE = {
    "DEFAULT_TOML": "sample",
    "Problem": "checking",
    "check": "checking",
    "shown": "showing",
    "to_toml": "toml_text",
}
"""What few processes need, and where it is."""

__all__ = [
    "ACTOR_KINDS",
    "BUILT_IN_PROVIDERS",
    "DEFAULT_TOML",
    "EMBEDDED_MODEL",
    "FUSION_SERVER",
    "LOCAL",
    "ActorSettings",
    "AgentDefinition",
    "AgentsSettings",
    "Config",
    "LogLevel",
    "McpServer",
    "McpSettings",
    "Problem",
    "ProviderSettings",
    "RouterSettings",
    "SessionSettings",
    "ShellSettings",
    "SupervisorSettings",
    "ToolsSettings",
    "check",
    "load",
    "read_text",
    "resolve_keys",
    "shown",
    "to_toml",
]


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
