"""A model that follows a script: an OpenAI-compatible endpoint that says what the test wants said, in its turn."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.fusionctl.counting_model import CountingModel


class ScriptedModel(CountingModel):
    """`script`: for each task (a conversation's last user message before any reply to it) what is said in turn.

    The turn is told by the conversation itself, so a question asked again gets the same reply, whatever died in
    between. Past its end the last line is said again; without a script for the task, the answer is "done".
    `requests`: every body, in order. `before`: is called with a body and its turn before that is answered.
    """

    def __init__(self, delay: float = 0.0) -> None:
        super().__init__(delay)
        self.script: dict[str, list[str]] = {}
        self.requests: list[dict[str, Any]] = []
        self.before: Callable[[dict[str, Any], int], None] | None = None

    def reply(self, body: dict[str, Any]) -> str:
        self.requests.append(body)
        said = [message for message in body["messages"] if message["role"] != "system"]
        for at in range(len(said) - 1, -1, -1):
            lines = self.script.get(said[at]["content"])
            if lines is not None:
                turn = sum(message["role"] == "assistant" for message in said[at:])
                if self.before is not None:
                    self.before(body, turn)
                return str(lines[min(turn, len(lines) - 1)])
        return final("done")


def act(tool: str, **given: Any) -> str:
    """The decision to use a tool."""
    action = {"tool": tool, "input": given}
    return json.dumps({"thought": f"I use {tool}", "action": action, "is_final": False, "final_answer": None})


def call(agent: str, task: str) -> str:
    """A supervisor's decision to call an agent."""
    said = {"thought": f"{agent} knows", "agent_to_invoke": agent, "agent_task": task}
    return json.dumps({**said, "is_final": False, "final_answer": None})


def choose(agent: str) -> str:
    """A router's decision."""
    return json.dumps({"agent_name": agent, "reasoning": "it fits"})


def final(answer: str) -> str:
    """The decision to answer."""
    return json.dumps({"thought": "I know", "action": None, "is_final": True, "final_answer": answer})
