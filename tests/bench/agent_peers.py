"""One run of a peer's agent with the tool `noop`: `python -m tests.bench.agent_peers PEER URL STEPS` prints seconds.

The imports and the making of the agent do not count; the run does.
"""

# mypy: disable-error-code="import-not-found, untyped-decorator, misc"

from __future__ import annotations

import sys
import time


def smolagents(url: str, steps: int) -> float:
    from smolagents import LogLevel, OpenAIServerModel, ToolCallingAgent, tool

    @tool
    def noop(n: int) -> int:
        """Does nothing.

        Args:
            n: A number, which is given back.
        """
        return n

    model = OpenAIServerModel(model_id="echo", api_base=url, api_key="none")
    agent = ToolCallingAgent(tools=[noop], model=model, max_steps=steps + 5, verbosity_level=LogLevel.OFF)
    began = time.perf_counter()
    answer = agent.run("go")
    took = time.perf_counter() - began
    assert answer == "done", answer
    return took


def openai_agents(url: str, steps: int) -> float:
    import asyncio

    from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
    from openai import AsyncOpenAI

    set_tracing_disabled(True)

    @function_tool
    def noop(n: int) -> int:
        """Does nothing."""
        return n

    async def run() -> float:
        client = AsyncOpenAI(base_url=url, api_key="none")
        agent = Agent(
            name="a", tools=[noop], model=OpenAIChatCompletionsModel(model="echo", openai_client=client)
        )
        began = time.perf_counter()
        result = await Runner.run(agent, "go", max_turns=steps + 5)
        took = time.perf_counter() - began
        assert result.final_output == "done", result
        return took

    return asyncio.run(run())


if __name__ == "__main__":
    peer = {"smolagents": smolagents, "openai-agents": openai_agents}[sys.argv[1]]
    print(peer(sys.argv[2], int(sys.argv[3])))
