"""Tools as people write them: schemas from signatures, and arguments back to values."""

from __future__ import annotations

import dataclasses
import enum
from typing import Annotated, Any, Literal, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiond.protocol.tools import ToolOutcome
from fusiond.tools import Tool, ToolMetadata, ToolParameter, ToolResult, tool
from fusiond.tools.api import ToolClass
from fusiond.tools.calling import call, check


class Unit(enum.Enum):
    CELSIUS = "c"
    FAHRENHEIT = "f"


class Place(msgspec.Struct):
    name: str
    height: int = 0


@dataclasses.dataclass
class Span:
    first: int
    last: int = 9


@tool
def weather(
    place: Place,
    unit: Unit = Unit.CELSIUS,
    days: Annotated[int, "how many days ahead"] = 1,
    kind: Literal["short", "long"] = "short",
    note: str | None = None,
    tags: list[str] = [],  # noqa: B006 — never changed
    limits: dict[str, float] | None = None,
    span: Span | None = None,
) -> str:
    """Tells the weather.

    And more that no model needs.

    Args:
        place: where
            it is
        unit (Unit): of the temperature
    """
    return f"{place.name} {place.height} {unit.name} {days} {kind} {note} {tags} {limits} {span}"


@tool(name="later", description="Waits.", repeatable=True, timeout_s=3)
async def asynchronous(n: int) -> int:
    return n + 1


@tool
class Greeter:
    """Greets people."""

    def __init__(self, greeting: str, times: int = 1) -> None:
        self._greeting = greeting * times

    def execute(self, name: Annotated[str, "who"]) -> ToolResult:
        return ToolResult(text=f"{self._greeting}, {name}", data={"name": name})


GREETER = cast(ToolClass, Greeter)  # which is what the decorator makes of it


class ByHand(Tool):
    def metadata(self) -> ToolMetadata:
        n = ToolParameter(name="n", schema={"type": "integer"}, description="a number")
        return ToolMetadata(name="double", description="Doubles.", parameters=[n])

    def validate(self, arguments: dict[str, Any]) -> None:
        super().validate(arguments)
        if arguments["n"] == 13:
            raise ValueError("13 brings bad luck, take another n")

    def execute(self, arguments: dict[str, Any]) -> int:
        return 2 * int(arguments["n"])


def run(one: Tool, **arguments: Any) -> ToolOutcome:
    return call(one, msgspec.json.encode(arguments))


def test_a_function_says_what_it_is_by_signature_and_docstring() -> None:
    metadata = weather.metadata()
    assert (metadata.name, metadata.description) == ("weather", "Tells the weather.")
    schema = metadata.schema
    assert schema["required"] == ["place"]
    assert schema["additionalProperties"] is False
    properties = schema["properties"]
    assert properties["place"] == {"$ref": "#/$defs/Place", "description": "where it is"}
    assert schema["$defs"]["Place"]["properties"]["name"] == {"type": "string"}
    assert schema["$defs"]["Unit"]["enum"] == ["c", "f"]
    assert properties["unit"]["default"] == "c"
    assert properties["days"] == {"type": "integer", "default": 1, "description": "how many days ahead"}
    assert properties["kind"]["enum"] == ["long", "short"]
    assert {one["type"] for one in properties["note"]["anyOf"]} == {"string", "null"}
    assert properties["tags"]["items"] == {"type": "string"}
    assert schema["$defs"]["Span"]["required"] == ["first"]


def test_the_values_are_what_the_function_was_written_for() -> None:
    outcome = run(
        weather, place={"name": "Ulm", "height": 478}, unit="f", days="3", limits={"x": 1}, span={"first": 2}
    )
    assert outcome.kind == "ok"
    assert outcome.text == "Ulm 478 FAHRENHEIT 3 short None [] {'x': 1.0} Span(first=2, last=9)"


def test_a_tool_can_still_be_called_as_the_function_that_it_is() -> None:
    assert weather(Place("Ulm")).startswith("Ulm 0 CELSIUS")


def test_an_asynchronous_function_is_a_tool_like_any_other() -> None:
    metadata = asynchronous.metadata()
    assert (metadata.name, metadata.description, metadata.repeatable, metadata.timeout_s) == (
        "later",
        "Waits.",
        True,
        3,
    )
    assert run(asynchronous, n=1).text == "2"


def test_the_configuration_of_a_class_is_seen_by_no_model() -> None:
    greeter = GREETER.configured({"greeting": "Hi", "times": 2})
    assert (greeter.metadata().name, greeter.metadata().description) == ("greeter", "Greets people.")
    assert list(greeter.metadata().schema["properties"]) == ["name"]
    outcome = run(greeter, name="Ada")
    assert (outcome.text, outcome.content[0].data) == ("HiHi, Ada", '{"name":"Ada"}')


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "the setting 'greeting' is missing"),
        ({"greeting": "Hi", "time": 2}, "no setting 'time', did you mean times?"),
        ({"greeting": "Hi", "times": "many"}, "the setting 'times' is wrong"),
    ],
)
def test_settings_that_the_class_does_not_take_are_refused_in_words(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words.replace("?", r"\?")):
        GREETER.configured(settings)


def test_a_class_by_hand_has_the_last_word_on_its_arguments() -> None:
    assert run(ByHand(), n=4).text == "8"
    assert run(ByHand(), n=13) == ToolOutcome(kind="invalid", text="13 brings bad luck, take another n")
    assert "missing (a number)" in run(ByHand()).text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, ["the argument 'place' is missing (where it is)"]),
        ({"place": {"name": "x"}, "dys": 2}, ["no argument 'dys', did you mean days?"]),
        ({"place": {"name": 5}}, ["'place'", "name"]),
        ({"place": {"name": "x"}, "unit": "k"}, ["'unit' is wrong", "'k'"]),
        ({"place": {"name": "x"}, "days": "some", "kind": "odd"}, ["'days' is wrong", "'kind' is wrong"]),
    ],
)
def test_what_is_wrong_with_arguments_is_said_in_words_and_nothing_is_run(
    arguments: dict[str, Any], words: list[str]
) -> None:
    outcome = check(weather, msgspec.json.encode(arguments))
    assert outcome is not None
    assert outcome.kind == "invalid"
    assert all(word in outcome.text for word in words), outcome.text


@pytest.mark.parametrize(
    ("arguments", "words"), [(b"{", "no JSON"), (b"[1]", "must be a JSON object"), (b"\xff", "no JSON")]
)
def test_what_is_no_object_is_refused(arguments: bytes, words: str) -> None:
    assert words in call(weather, arguments).text


def test_what_a_tool_raises_is_told_with_its_line() -> None:
    @tool
    def broken(n: int) -> int:
        """Divides."""
        return 1 // n

    outcome = run(broken, n=0)
    assert outcome.kind == "error"
    assert "ZeroDivisionError" in outcome.text
    assert "(test_api.py:" in outcome.text


def test_a_tool_that_leaves_python_does_not_take_its_worker_along() -> None:
    @tool
    def leaves() -> None:
        """Leaves."""
        raise SystemExit(3)

    assert run(leaves).kind == "error"


def test_what_json_cannot_say_is_told_as_text() -> None:
    @tool
    def odd() -> object:
        """Odd."""
        return {"a": object, "b": {1, 2}}

    assert "object" in run(odd).text


def no_schema(*names: str) -> None:
    """Cannot be."""


def unknown(kind: Nowhere) -> None:  # type: ignore[name-defined] # noqa: F821
    """Cannot be."""


@pytest.mark.parametrize(
    ("function", "words"), [(no_schema, r"\*names"), (unknown, "Nowhere"), (5, "neither")]
)
def test_what_no_schema_can_be_made_of_is_refused_at_once(function: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        tool(function)


def test_a_class_without_execute_is_no_tool() -> None:
    with pytest.raises(TypeError, match="no method `execute`"):
        tool(Unit)


@tool
def anything(
    whole: int,
    real: float,
    yes: bool,
    text: str,
    several: list[int],
    named: dict[str, bool],
    perhaps: Place | None,
) -> list[Any]:
    """Gives back what it is given."""
    return [whole, real, yes, text, several, named, None if perhaps is None else perhaps.name]


VALUES = st.tuples(
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.text(),
    st.lists(st.integers(-9, 9)),
    st.dictionaries(st.text(), st.booleans()),
    st.one_of(st.none(), st.text()),
)


@given(VALUES)
def test_what_goes_in_as_json_arrives_equal(values: tuple[Any, ...]) -> None:
    *plain, name = values
    names = ["whole", "real", "yes", "text", "several", "named"]
    arguments = dict(zip(names, plain, strict=True)) | {"perhaps": None if name is None else {"name": name}}
    outcome = call(anything, msgspec.json.encode(arguments))
    assert outcome.kind == "ok", outcome.text
    assert msgspec.json.decode(outcome.text) == list(values)
