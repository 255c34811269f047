"""From a Python signature to a JSON schema, and from JSON arguments back to Python values."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin

import msgspec

from fusiond.config.naming import nearest

_PLACEHOLDERS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_MOST_PROBLEMS = 5


class ToolParameter(msgspec.Struct, frozen=True, kw_only=True):
    """One argument. `schema`: JSON schema of its value, `{"type": "string"}` and so on."""

    name: str
    schema: dict[str, Any]
    description: str = ""
    required: bool = True


def object_schema(parameters: list[ToolParameter], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object with these properties and no others."""
    properties = {
        one.name: {**one.schema, "description": one.description} if one.description else one.schema
        for one in parameters
    }
    schema: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": [one.name for one in parameters if one.required],
        "additionalProperties": False,
    }
    return {**schema, "$defs": definitions} if definitions else schema


class Signature:
    """The parameters of a function: their schemas, and their types to convert to."""

    def __init__(
        self,
        parameters: list[ToolParameter],
        definitions: dict[str, Any],
        types: dict[str, Any] | None = None,
    ) -> None:
        self.parameters = parameters
        self.definitions = definitions
        self._types = types or {}

    @classmethod
    def of(cls, function: Callable[..., Any], *, method: bool = False) -> Signature:
        """Of a function, or of a method without its `self`. Raises TypeError if no schema can be made of it."""
        where = getattr(function, "__qualname__", repr(function))
        found = list(inspect.signature(function).parameters.values())[1 if method else 0 :]
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except NameError as error:
            raise TypeError(f"{where}: an annotation cannot be understood: {error}") from None
        told = _described(inspect.getdoc(function) or "")
        for one in found:
            if one.kind in _PLACEHOLDERS:
                raise TypeError(f"{where}: *{one.name} cannot be a tool's parameter, name each of them")
            if one.kind is inspect.Parameter.POSITIONAL_ONLY:
                raise TypeError(f"{where}: {one.name} must be allowed to be given by its name")
        types = {one.name: hints.get(one.name, Any) for one in found}
        bare = {name: _without_texts(kind) for name, kind in types.items()}
        try:
            schemas, definitions = msgspec.json.schema_components(
                list(bare.values()), ref_template="#/$defs/{name}"
            )
        except TypeError as error:
            raise TypeError(f"{where}: a parameter is of a type that JSON cannot say: {error}") from None
        parameters = [
            ToolParameter(
                name=one.name,
                schema=_with_default(schema, one.default),
                description=_text_of(types[one.name]) or told.get(one.name, ""),
                required=one.default is inspect.Parameter.empty,
            )
            for one, schema in zip(found, schemas, strict=True)
        ]
        return cls(parameters, definitions, bare)

    def convert(self, given: dict[str, Any], *, what: str = "argument") -> dict[str, Any]:
        """The values as the function takes them. Raises ValueError that says all that is wrong with them.

        What is meant without doubt is taken: "3" for a number, 3.0 for a whole one.
        """
        known = [one.name for one in self.parameters]
        wrong = []
        for name in given:
            if name not in known:
                near = nearest(str(name), known)
                meant = f", did you mean {near}?" if near else ""
                wrong.append(
                    f"there is no {what} {name!r}{meant or ';'} there are: {', '.join(known) or 'none'}"
                )
        wrong += [
            f"the {what} {one.name!r} is missing{_wanted(one)}"
            for one in self.parameters
            if one.required and one.name not in given
        ]
        values: dict[str, Any] = {}
        for one in self.parameters:
            if one.name not in given:
                continue
            try:
                values[one.name] = msgspec.convert(given[one.name], self._types[one.name], strict=False)
            except (msgspec.ValidationError, ValueError, TypeError, OverflowError) as error:
                wrong.append(f"the {what} {one.name!r} is wrong: {_in_words(error)}{_wanted(one)}")
        if wrong:
            more = f"; and {len(wrong) - _MOST_PROBLEMS} more" if len(wrong) > _MOST_PROBLEMS else ""
            raise ValueError("; ".join(wrong[:_MOST_PROBLEMS]) + more)
        return values


def _wanted(one: ToolParameter) -> str:
    return f" ({one.description})" if one.description else ""


def _in_words(error: Exception) -> str:
    """msgspec's own words, with the place as a model would write it."""
    text = str(error)
    return re.sub(
        r" - at `\$([^`]*)`$", lambda match: f" at {match[1].lstrip('.')}" if match[1] else "", text
    )


def _with_default(schema: dict[str, Any], default: Any) -> dict[str, Any]:
    if default is inspect.Parameter.empty or "default" in schema:
        return schema
    try:
        return {**schema, "default": msgspec.to_builtins(default)}
    except (TypeError, ValueError):  # one that JSON cannot say
        return schema


def _without_texts(kind: Any) -> Any:
    """`kind` without `Annotated`'s plain texts, which msgspec would not know what to do with; bounds stay."""
    if get_origin(kind) is not Annotated:
        return kind
    inner, *extras = get_args(kind)
    kept = [extra for extra in extras if isinstance(extra, msgspec.Meta)]
    return Annotated[(inner, *kept)] if kept else inner


def _text_of(kind: Any) -> str:
    if get_origin(kind) is not Annotated:
        return ""
    for extra in get_args(kind)[1:]:
        if isinstance(extra, str):
            return extra
        if isinstance(extra, msgspec.Meta) and extra.description:
            return str(extra.description)
    return ""


_LINE = re.compile(r"^\s*(?::param\s+)?(?P<name>\w+)\s*(?:\([^)]*\))?\s*:\s+(?P<text>\S.*)$")


def _described(doc: str) -> dict[str, str]:
    """`name: text` lines of a docstring, and what is indented deeper below them."""
    found: dict[str, str] = {}
    last, depth = "", 0
    for line in doc.splitlines():
        indent = len(line) - len(line.lstrip())
        if match := _LINE.match(line):
            last, depth = match["name"], indent
            found[last] = match["text"].strip()
        elif last and line.strip() and indent > depth:
            found[last] += f" {line.strip()}"
        else:
            last = ""
    return found
