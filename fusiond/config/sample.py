"""The file that `config init` writes: every key with its meaning and its default, commented out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from fusiond.config.naming import is_section, named_tables
from fusiond.config.schema import (
    FIRST_CHOICE,
    FREE_TABLES,
    AgentDefinition,
    Config,
    McpServer,
    ProviderSettings,
    Section,
)
from fusiond.config.toml_text import toml_value

_INTRODUCTION = """\
# Fusion's configuration. What is commented out is the default: take away the # of a line to change it.
# `fusionctl config check` says what is wrong with it; `fusionctl reload` makes a running daemon read it.
"""

_MCP_HEADING = "An MCP server: a command to run (command, args, env, cwd), or the URL of one (url, headers)."

_EXAMPLES: tuple[tuple[str, str, Section], ...] = (
    (
        "providers.mylab",
        "Any OpenAI-compatible endpoint: vLLM, Ollama, llama.cpp. Its models are then mylab/NAME.",
        ProviderSettings(base_url="http://127.0.0.1:8000/v1", api_key_file="mylab.key"),
    ),
    (
        "mcp.servers.time",
        _MCP_HEADING,
        McpServer(command="mcp-server-time", args=["--local-timezone", "UTC"]),
    ),
    (
        "tools.weather",
        "What the constructor of a tool of one's own takes, and no model sees: the keys are its arguments.",
        Section(),
    ),
    (
        "agents.reviewer",
        "An agent of one's own.",
        AgentDefinition(
            description="Reviews code.",
            system_prompt="You review code. Be brief.",
            tools=["read_file", "mcp:time/*"],
        ),
    ),
)


def _sample() -> str:
    defaults = Config()
    blocks = [_INTRODUCTION, _lines(Config(model=FIRST_CHOICE["openai"]))]
    blocks += [f"[{path}]\n{_lines(section)}" for path, section in sections(defaults) if _lines(section)]
    blocks += [
        f"[actors.{kind}]\n{_lines(actor, explained=number == 0)}"
        for number, (kind, actor) in enumerate(defaults.actors.items())
    ]
    blocks += [f"[providers.{name}]\n{_lines(one, brief=True)}" for name, one in defaults.providers.items()]
    blocks += [f"# {meaning}\n#[{path}]\n{_lines(one, brief=True)}" for path, meaning, one in _EXAMPLES]
    return "\n".join(blocks)


def sections(section: Section, path: str = "") -> Iterator[tuple[str, Section]]:
    """The tables that are always there, below `section`."""
    for field in msgspec.structs.fields(section):
        if is_section(field.type):
            inner = getattr(section, field.name)
            yield f"{path}{field.name}", inner
            yield from sections(inner, f"{path}{field.name}.")


def _lines(section: Section, *, brief: bool = False, explained: bool = True) -> str:
    """The keys of one table, commented out, each below its meaning. `brief`: without the empty ones."""
    text = ""
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        gathered = field.name == FREE_TABLES.get(type(section))
        if gathered or is_section(field.type) or named_tables(field.type) or (brief and not value):
            continue
        told = meaning(field.type) if explained else ""
        text += (f"# {told}\n" if told else "") + f"#{field.name} = {toml_value(value)}\n"
    return text


def meaning(kind: Any) -> str:
    """The description that stands at a key's type."""
    found = (one.description for one in get_args(kind)[1:] if isinstance(one, msgspec.Meta))
    return next(found, None) or ""


DEFAULT_TOML = _sample()
"""What `config init` writes."""
