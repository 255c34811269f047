"""Arguments against a JSON schema that was written by hand, or comes from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from fusiond.config.naming import nearest

_MOST = 5
_SHOWN = 60  # characters of a value


def read_object(text: bytes) -> tuple[dict[str, Any], str]:
    """Arguments as they come from a model: a JSON object, and what is wrong if it is none."""
    try:
        given = msgspec.json.decode(text or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return {}, f"the arguments are no JSON: {error}"
    if not isinstance(given, dict):
        return {}, "the arguments must be a JSON object: {…}"
    return given, ""


def problems(schema: Mapping[str, Any], arguments: Any) -> str:
    """All that is wrong, in words that a model can act on; "" if nothing is, or if `schema` is none."""
    return checker(schema)(arguments)


def checker(schema: Mapping[str, Any]) -> Callable[[Any], str]:
    """`problems` of this schema, ready to be asked again and again."""
    from jsonschema import Draft202012Validator  # a tenth of a second, for those who need it
    from jsonschema.exceptions import SchemaError
    from referencing.exceptions import Unresolvable

    try:
        Draft202012Validator.check_schema(dict(schema))
    except (SchemaError, RecursionError):
        return lambda _arguments: ""
    validator = Draft202012Validator(dict(schema))

    def check(arguments: Any) -> str:
        try:
            found = [words for error in validator.iter_errors(arguments) for words in _told(error)]
        except (Unresolvable, RecursionError):
            return ""
        more = f"; and {len(found) - _MOST} more" if len(found) > _MOST else ""
        return "; ".join(found[:_MOST]) + more

    return check


def _told(error: Any) -> Iterator[str]:
    """One error of jsonschema's in our words; of unknown keys one for each."""
    where = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path
    ).lstrip(".")
    if error.validator == "required":
        name = error.message.split("'")[1]
        described = error.schema.get("properties", {}).get(name, {})
        text = described.get("description", "") if isinstance(described, dict) else ""
        yield f"the argument {_join(where, name)!r} is missing" + (f" ({text})" if text else "")
    elif error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = list(error.schema.get("properties", {}))
        for name in error.instance:
            if name not in known:
                near = nearest(name, known)
                meant = f", did you mean {near}?" if near else f"; there are: {', '.join(known) or 'none'}"
                yield f"there is no argument {_join(where, name)!r}{meant}"
    elif error.validator == "type":
        wanted = error.validator_value
        words = " or ".join(wanted) if isinstance(wanted, list) else wanted
        yield f"{_subject(where)} must be of type {words}, not {_shown(error.instance)}"
    elif error.validator == "enum":
        words = ", ".join(json.dumps(value) for value in error.validator_value)
        yield f"{_subject(where)} must be one of {words}, not {_shown(error.instance)}"
    else:
        yield f"{_subject(where)} is wrong: {error.message[:200]}"


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _subject(where: str) -> str:
    return f"the argument {where!r}" if where else "the input"


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
