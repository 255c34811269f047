"""Tools for agents: the API to write them with.

Three ways:

- a class by hand: a subclass of `Tool` with `metadata`, `validate` and `execute`
- `@tool` on a function: name, description and schema come from its signature and docstring
- `@tool` on a class: its constructor's arguments are configuration, which the model never sees; `execute` is the tool
"""

from fusiond.tools.api import Tool, ToolMetadata, ToolResult, tool
from fusiond.tools.schema import ToolParameter

__all__ = ["Tool", "ToolMetadata", "ToolParameter", "ToolResult", "tool"]
