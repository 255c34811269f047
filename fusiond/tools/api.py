"""What a tool is, and the ways to make one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar, overload

import msgspec

from fusiond.tools.schema import Signature, ToolParameter, object_schema
from fusiond.tools.validation import problems

T = TypeVar("T")


class ToolMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is told of a tool.

    `repeatable`: calling it twice does no harm, so a call whose outcome is not known is simply made again.
    `timeout_s`: None for the configured one. `definitions`: what the parameters' schemas refer to as `#/$defs/…`.
    """

    name: str
    description: str
    parameters: list[ToolParameter] = []
    repeatable: bool = False
    timeout_s: float | None = None
    definitions: dict[str, Any] = {}

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments as a whole."""
        return object_schema(self.parameters, self.definitions)


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool gives back. `text`: for the model. `ok`: False if it could not do what was asked. `data`: JSON."""

    text: str
    ok: bool = True
    data: Any = None


class Tool:
    """A tool written by hand. `execute` may be a coroutine function; what it raises is told to the model."""

    def metadata(self) -> ToolMetadata:
        """What it is; the same each time."""
        raise NotImplementedError

    def validate(self, arguments: dict[str, Any]) -> None:
        """Raises ValueError in words that a model can act on; by default, for what the schema does not allow."""
        if wrong := problems(self.metadata().schema, arguments):
            raise ValueError(wrong)

    def execute(self, arguments: dict[str, Any]) -> Any:
        """Does it: returns a ToolResult, a text, or anything that JSON can say. The arguments are valid."""
        raise NotImplementedError


class FunctionTool(Tool):
    """A function as a tool; it can still be called as the function that it is."""

    def __init__(self, function: Callable[..., Any], metadata: ToolMetadata, signature: Signature) -> None:
        self._function = function
        self._metadata = metadata
        self._signature = signature
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__

    def __repr__(self) -> str:
        return f"<tool {self._metadata.name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def metadata(self) -> ToolMetadata:
        return self._metadata

    def validate(self, arguments: dict[str, Any]) -> None:
        self._signature.convert(arguments)

    def execute(self, arguments: dict[str, Any]) -> Any:
        return self._function(**self._signature.convert(arguments))


class ToolClass:
    """A class as a tool: `configured` makes the tool, from what the configuration says of it."""

    def __init__(self, cls: type[Any], options: dict[str, Any]) -> None:
        execute = getattr(cls, "execute", None)
        if not callable(execute):
            raise TypeError(f"{cls.__name__} has no method `execute`, so it is no tool")
        self._cls = cls
        self._execute = Signature.of(execute, method=True)
        self._settings = (
            Signature.of(cls.__init__, method=True) if "__init__" in vars(cls) else Signature([], {})
        )
        self.name = options["name"] or _snake_case(cls.__name__)
        described = execute if execute.__doc__ and not cls.__doc__ else cls
        self._metadata = _metadata(described, self._execute, {**options, "name": self.name})
        self.__doc__ = cls.__doc__
        self.__module__ = cls.__module__

    def __repr__(self) -> str:
        return f"<tool class {self.name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """An instance, as of any class."""
        return self._cls(*args, **kwargs)

    def configured(self, settings: dict[str, Any]) -> Tool:
        """The tool. Raises ValueError for settings that the constructor does not take."""
        made = self._cls(**self._settings.convert(settings, what="setting"))
        return FunctionTool(made.execute, self._metadata, self._execute)


@overload
def tool(made_of: type[Any], /) -> ToolClass: ...
@overload
def tool(made_of: Callable[..., Any], /) -> FunctionTool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    repeatable: bool = False,
    timeout_s: float | None = None,
) -> Callable[[Any], Any]: ...
def tool(
    made_of: Any = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    repeatable: bool = False,
    timeout_s: float | None = None,
) -> Any:
    """Makes a tool of a function, or of a class with a method `execute`.

    Name, description and schema come from the signature and the docstring: what is annotated with
    `Annotated[T, "text"]` or has a line `name: text` in the docstring is described. The constructor's arguments of a
    class are configuration (`[tools.NAME]`), which no model sees. Raises TypeError for a signature that no schema can
    be made of.
    """
    options = {"name": name, "description": description, "repeatable": repeatable, "timeout_s": timeout_s}

    def make(target: Any) -> Any:
        if inspect.isclass(target):
            return ToolClass(target, options)
        if not callable(target):
            raise TypeError(f"{target!r} is neither a function nor a class")
        signature = Signature.of(target)
        return FunctionTool(target, _metadata(target, signature, options), signature)

    return make if made_of is None else make(made_of)


def _metadata(target: Any, signature: Signature, options: dict[str, Any]) -> ToolMetadata:
    return ToolMetadata(
        name=options["name"] or target.__name__,
        description=options["description"] or _first_paragraph(target.__doc__ or ""),
        parameters=signature.parameters,
        definitions=signature.definitions,
        repeatable=options["repeatable"],
        timeout_s=options["timeout_s"],
    )


def _first_paragraph(doc: str) -> str:
    return " ".join(inspect.cleandoc(doc).partition("\n\n")[0].split())


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
