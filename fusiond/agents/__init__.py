"""Agents as state machines over (messages, decision, observation). Pure: no clock, no socket, no process.

- `definition`: what an agent is; `AgentBuilder` and `AgentCollection` make agents in code
- `builtin`: the agents that are always there
- `decisions`: what a model decides in a step, and how its words are read
- `prompts`: what a model is told
- `machine`: a run, from its recorded steps to what is to be done next
- `history`: a conversation that is too long
- `limits`: what a run may use, together with those that it calls
"""

from fusiond.agents.definition import Agent, AgentBuilder, AgentCollection

__all__ = ["Agent", "AgentBuilder", "AgentCollection"]
