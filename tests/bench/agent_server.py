"""A model that uses the tool `noop` so many times and then answers: in Fusion's decisions, or in tool calls of OpenAI's
API for whoever sends `tools`. `python -m tests.bench.agent_server STEPS` prints its base URL.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from tests.bench.instant_server import Connection, Server, serve, whole


class AgentServer(Server):
    """Its process; `tokens` are the steps."""

    module = "tests.bench.agent_server"


class _Decides(Connection):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self._steps = steps

    def answer(self, body: bytes) -> None:
        request = json.loads(body)
        taken = sum(message["role"] == "assistant" for message in request["messages"])
        last = taken >= self._steps
        if "tools" in request:
            names = [tool["function"]["name"] for tool in request["tools"]]
            reply = _answer_in_tools(names) if last else _tool_call("noop", {"n": taken})
        else:
            reply = _say("action", None) if last else _say("action", {"tool": "noop", "input": {"n": taken}})
        self.transport.write(whole(reply, "tool_calls" if "tool_calls" in reply else "stop"))


def _answer_in_tools(names: list[str]) -> dict[str, Any]:
    """smolagents answers by a tool, others in words."""
    if "final_answer" in names:
        return _tool_call("final_answer", {"answer": "done"})
    return {"role": "assistant", "content": "done"}


def _tool_call(name: str, given: dict[str, Any]) -> dict[str, Any]:
    call = {"id": f"c{given.get('n', 'x')}", "type": "function"}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{**call, "function": {"name": name, "arguments": json.dumps(given)}}],
    }


def _say(key: str, action: dict[str, Any] | None) -> dict[str, Any]:
    said = {"thought": "on", key: action, "is_final": action is None}
    return {"role": "assistant", "content": json.dumps({**said, "final_answer": None if action else "done"})}


if __name__ == "__main__":
    steps = int(sys.argv[1])
    asyncio.run(serve(lambda: _Decides(steps)))
