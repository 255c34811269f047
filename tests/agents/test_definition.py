"""Agents made in code."""

from __future__ import annotations

import pytest

from fusiond.agents import AgentBuilder, AgentCollection
from fusiond.agents.history import shorter
from fusiond.errors import ConfigError, NotFound
from fusiond.protocol.chat import Message


def test_a_builder_makes_an_agent_a_word_at_a_time() -> None:
    agent = (
        AgentBuilder("reviewer")
        .description("Reviews code.")
        .system_prompt("Be brief.")
        .tools("read_file")
        .tools("mcp:git/*")
        .model("openai/gpt-4o-mini")
        .max_steps(7)
        .build()
    )
    assert (agent.name, agent.description, agent.system_prompt) == ("reviewer", "Reviews code.", "Be brief.")
    assert (agent.tools, agent.model, agent.max_steps) == (
        ["read_file", "mcp:git/*"],
        "openai/gpt-4o-mini",
        7,
    )


@pytest.mark.parametrize("name", ["", "two words", "a" * 65, "ü"])
def test_an_agent_without_a_right_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be named"):
        AgentBuilder().name(name).build()


def test_a_collection_holds_each_name_once() -> None:
    one, two = AgentBuilder("one").build(), AgentBuilder("two").build()
    crew = AgentCollection([one]).add(two)
    assert (crew.names, len(crew), "one" in crew, list(crew)) == (["one", "two"], 2, True, [one, two])
    assert crew.get("two") is two
    with pytest.raises(ConfigError, match='two agents named "one"'):
        crew.add(one)
    with pytest.raises(NotFound):
        crew.get("three")


def test_half_of_a_conversation_is_left_out_and_never_its_question() -> None:
    said = [Message("system", "s")] + [
        Message("user" if n % 2 == 0 else "assistant", str(n)) for n in range(7)
    ]
    kept = shorter(said)
    assert [message.content for message in kept] == ["s", "4", "5", "6"]
    while kept != (fewer := shorter(kept)):
        kept = fewer
    assert [message.content for message in kept] == ["s", "6"]
