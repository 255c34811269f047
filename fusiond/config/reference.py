"""Every table and key of the configuration as a document: `python -m fusiond.config.reference` prints it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from fusiond.config.naming import is_section, named_tables
from fusiond.config.sample import meaning, sections
from fusiond.config.schema import (
    FREE_TABLES,
    ActorSettings,
    AgentDefinition,
    Config,
    McpServer,
    ProviderSettings,
    Section,
)
from fusiond.config.toml_text import toml_value

_INTRODUCTION = """\
# Configuration reference

Made from the code by `python -m fusiond.config.reference`. `fusionctl config init` writes a file with all of it
commented out, `config check` says what is wrong with a file, `config show` what is in effect, and `reload` makes a
running daemon take it.
"""

_FREE: tuple[tuple[str, type[Section]], ...] = (
    ("actors.KIND", ActorSettings),
    ("providers.NAME", ProviderSettings),
    ("mcp.servers.NAME", McpServer),
    ("agents.NAME", AgentDefinition),
)
_EXPLAINED = {
    "actors.KIND": "KIND is llm, agent, tools, batch, store or router.",
    "providers.NAME": "`openai` and `anthropic` are there already. The models of a provider are NAME/MODEL.",
    "mcp.servers.NAME": "The keys of the `mcpServers` shape. `fusion` is there already.",
    "agents.NAME": "The agents `general`, `file_ops`, `shell` and `web` are there already.",
}


def reference() -> str:
    """The document."""
    tables = [("", Config()), *sections(Config()), *((path, kind()) for path, kind in _FREE)]
    return "\n".join(
        [_INTRODUCTION, *(_table(path, section) for path, section in tables if list(_rows(section)))]
    )


def _table(path: str, section: Section) -> str:
    title = f"## `[{path}]`" if path else "## Before the first table"
    told = (type(section).__doc__ or "").strip() if path else ""
    lines = [
        title,
        "",
        *([told, ""] if told else []),
        *([_EXPLAINED[path], ""] if path in _EXPLAINED else []),
    ]
    return "\n".join([*lines, "| Key | Type | Default | Meaning |", "|---|---|---|---|", *_rows(section), ""])


def _rows(section: Section) -> Iterator[str]:
    for field in msgspec.structs.fields(section):
        if field.name == FREE_TABLES.get(type(section)) or is_section(field.type) or named_tables(field.type):
            continue
        default = toml_value(getattr(section, field.name))
        cells = (f"`{field.name}`", _type(field.type), f"`{default}`", meaning(field.type))
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _type(kind: Any) -> str:
    """A type as a person calls it, with its bounds."""
    if get_origin(kind) is Annotated:
        inner, *notes = get_args(kind)
        bounds = [bound for note in notes if isinstance(note, msgspec.Meta) for bound in _bounds(note)]
        return ", ".join([_type(inner), *bounds])
    if get_origin(kind) in (UnionType, Union):
        return " or ".join(map(_type, get_args(kind)))
    if get_origin(kind) is Literal:
        return " or ".join(f'`"{value}"`' for value in get_args(kind))
    if get_origin(kind) is list:
        return f"list of {_type(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return f"table of {_type(get_args(kind)[1])}"
    return {int: "integer", float: "number", str: "string", bool: "boolean"}[kind]


def _bounds(note: msgspec.Meta) -> Iterator[str]:
    for sign, bound in (("> ", note.gt), ("≥ ", note.ge), ("< ", note.lt), ("≤ ", note.le)):
        if bound is not None:
            yield f"{sign}{bound:,}"


if __name__ == "__main__":
    sys.stdout.write(reference())
