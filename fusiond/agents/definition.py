"""What an agent is, and the ways to make one in code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Self

import msgspec

from fusiond.errors import ConfigError, NotFound

Kind = Literal["react", "router", "supervisor"]
"""`react`: thinks and uses tools. `router`: hands the task to one agent. `supervisor`: has agents work for it."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent. `tools`: names; `mcp:SERVER/*` stands for all of a server's, `*` for all that are no server's.

    `model`: "" for the default. `max_steps`: 0 for the default. `source`: where it was defined.
    """

    name: str
    description: str = ""
    system_prompt: str = ""
    tools: list[str] = []
    model: str = ""
    max_steps: int = 0
    kind: Kind = "react"
    source: str = "built-in"


class AgentBuilder:
    """Makes an agent, a word at a time.

    AgentBuilder("reviewer").description("Reviews code.").system_prompt("Be brief.").tools("read_file").build()
    """

    def __init__(self, name: str = "") -> None:
        self._fields: dict[str, Any] = {"name": name}

    def name(self, name: str) -> Self:
        """Up to 64 letters, digits, - and _."""
        return self._with(name=name)

    def description(self, text: str) -> Self:
        """What it is good at: by this routers and supervisors choose it."""
        return self._with(description=text)

    def system_prompt(self, text: str) -> Self:
        """What the model is told that it is."""
        return self._with(system_prompt=text)

    def tools(self, *tools: object) -> Self:
        """The tools it may use, by name or as they are; called again, further ones."""
        return self._with(tools=[*self._fields.get("tools", []), *map(_tool_name, tools)])

    def model(self, model: str) -> Self:
        """`provider/name`."""
        return self._with(model=model)

    def max_steps(self, steps: int) -> Self:
        """It ends after so many."""
        return self._with(max_steps=steps)

    def build(self) -> Agent:
        """The agent. Raises ConfigError for one without a right name."""
        name = self._fields["name"]
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(
                f"an agent cannot be named {name!r}", advice="up to 64 letters, digits, - and _"
            )
        return msgspec.convert({**self._fields, "source": "code"}, Agent)

    def _with(self, **fields: Any) -> Self:
        self._fields |= fields
        return self


class AgentCollection:
    """Agents by name. Raises ConfigError where a name is taken."""

    def __init__(self, agents: Iterable[Agent] = ()) -> None:
        self._agents: dict[str, Agent] = {}
        for agent in agents:
            self.add(agent)

    def add(self, agent: Agent) -> Self:
        if agent.name in self._agents:
            raise ConfigError(f'there are two agents named "{agent.name}"', advice="rename one of them")
        self._agents[agent.name] = agent
        return self

    def get(self, name: str) -> Agent:
        """Raises NotFound."""
        if name not in self._agents:
            raise NotFound(f'there is no agent "{name}"', advice="see: fusionctl agents list")
        return self._agents[name]

    @property
    def names(self) -> list[str]:
        return list(self._agents)

    def __iter__(self) -> Iterator[Agent]:
        return iter(self._agents.values())

    def __len__(self) -> int:
        return len(self._agents)

    def __contains__(self, name: object) -> bool:
        return name in self._agents

    def __repr__(self) -> str:
        return f"AgentCollection({', '.join(self._agents)})"


def _tool_name(tool: Any) -> str:
    return tool if isinstance(tool, str) else str(tool.metadata().name)
