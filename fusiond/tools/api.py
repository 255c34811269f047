"""What a tool is."""

from __future__ import annotations

from typing import Any

import msgspec


class ToolParameter(msgspec.Struct, frozen=True, kw_only=True):
    """One argument. `schema`: JSON schema of its value, `{"type": "string"}` and so on."""

    name: str
    schema: dict[str, Any]
    description: str = ""
    required: bool = True


class ToolMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is told of a tool.

    `repeatable`: calling it twice does no harm, so a call whose outcome is not known is simply made again.
    `timeout_s`: None for the configured one.
    """

    name: str
    description: str
    parameters: list[ToolParameter] = []
    repeatable: bool = False
    timeout_s: float | None = None

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments as a whole."""
        raise NotImplementedError


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool gives back. `text`: for the model. `ok`: False if it could not do what was asked. `data`: JSON."""

    text: str
    ok: bool = True
    data: Any = None


class Tool:
    """A tool written by hand. `execute` may be a coroutine function; what it raises is told to the model."""

    def metadata(self) -> ToolMetadata:
        raise NotImplementedError

    def validate(self, arguments: dict[str, Any]) -> None:
        """Raises ValueError in words that a model can act on. By default: what the schema says."""

    def execute(self, arguments: dict[str, Any]) -> Any:
        """Does it: returns a ToolResult, a text, or anything that JSON can say. Arguments are valid."""
        raise NotImplementedError


def tool(*args: Any, **kwargs: Any) -> Any:
    """Makes a tool of a function, or of a class with `execute`."""
    raise NotImplementedError
