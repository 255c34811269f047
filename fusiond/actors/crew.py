"""The agents there are: built in, from the configuration, and from modules of the user's."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from fusiond.agents.builtin import BUILT_IN, LEADERS
from fusiond.agents.definition import Agent, AgentCollection
from fusiond.config.naming import nearest
from fusiond.config.schema import AgentsSettings
from fusiond.errors import NotFound
from fusiond.protocol.agents import AgentDetail, AgentInfo

log = logging.getLogger(__name__)


class Crew:
    """Agents by name. One from the configuration takes the place of a built-in one of its name; of two others the
    first stays. What went wrong is listed, and hurts nobody else.
    """

    def __init__(self, settings: AgentsSettings, folder: str) -> None:
        self._agents = {agent.name: agent for agent in BUILT_IN}
        self._problems: list[AgentInfo] = []
        self._reserved = {agent.name: agent for agent in LEADERS}
        for name, one in settings.defined.items():
            self._add(Agent(name=name, source="configuration", **msgspec.structs.asdict(one)))
        if settings.modules and folder not in sys.path:
            sys.path.insert(0, folder)
        for module in settings.modules:
            self._load(module)

    @property
    def team(self) -> list[Agent]:
        """Those that can be given a task by a router or a supervisor."""
        return list(self._agents.values())

    def get(self, name: str) -> Agent:
        """Raises NotFound with the nearest name."""
        found = self._agents.get(name) or self._reserved.get(name)
        if found is None:
            broken = next((one for one in self._problems if one.name == name), None)
            if broken is not None:
                raise NotFound(f'there is no agent "{name}": {broken.problem}')
            near = nearest(name, [*self._agents, *self._reserved])
            meant = f" (did you mean {near}?)" if near else ""
            raise NotFound(f'there is no agent "{name}"{meant}', advice="see: fusionctl agents list")
        return found

    def infos(self) -> list[AgentInfo]:
        known = [
            AgentInfo(name=one.name, description=one.description, tools=one.tools, source=one.source)
            for one in self._agents.values()
        ]
        return known + self._problems

    def detail(self, name: str) -> AgentDetail:
        one = self.get(name)
        return AgentDetail(
            name=one.name,
            description=one.description,
            tools=one.tools,
            source=one.source,
            system_prompt=one.system_prompt,
            model=one.model,
            max_steps=one.max_steps,
        )

    def _load(self, module: str) -> None:
        source = f"module {module}"
        try:
            found = list(_agents_in(importlib.import_module(module)))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            log.warning("the module %s cannot be loaded", module, exc_info=error)
            self._problem(module, source, f"it cannot be loaded: {type(error).__name__}: {error}")
            return
        if not found:
            self._problem(module, source, "it has no agents: Agent or AgentCollection, made by AgentBuilder")
        for agent in found:
            self._add(replace(agent, source=source))

    def _add(self, agent: Agent) -> None:
        if agent.name in self._reserved:
            self._problem(agent.name, agent.source, "the name is taken by a built-in agent")
            return
        known = self._agents.get(agent.name)
        if known is not None and not (known.source == "built-in" and agent.source == "configuration"):
            self._problem(
                agent.name, agent.source, f'the name is taken: {known.source} has an agent "{agent.name}" too'
            )
            return
        self._agents[agent.name] = agent

    def _problem(self, name: str, source: str, why: str) -> None:
        self._problems.append(AgentInfo(name=name, description="", tools=[], source=source, problem=why))


def _agents_in(module: Any) -> Iterator[Agent]:
    """The agents among a module's names, each once."""
    seen: set[str] = set()
    for value in vars(module).values():
        for agent in value if isinstance(value, AgentCollection) else [value]:
            if isinstance(agent, Agent) and agent.name not in seen:
                seen.add(agent.name)
                yield agent
