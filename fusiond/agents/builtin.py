"""The agents that are always there."""

from __future__ import annotations

from fusiond.agents.definition import Agent

FILE_OPS = Agent(
    name="file_ops",
    description="Reads, writes and lists files in the workspace.",
    system_prompt="You work with files in the workspace. Look before you write, and say what you have changed.",
    tools=["read_file", "write_file", "list_files"],
)
SHELL = Agent(
    name="shell",
    description="Runs shell commands in the workspace and explains what they print.",
    system_prompt="You run shell commands to find things out and to get things done. One command at a time.",
    tools=["shell"],
)
WEB = Agent(
    name="web",
    description="Fetches pages and calls HTTP APIs.",
    system_prompt="You fetch what is needed over HTTP and answer from what came back, naming the address.",
    tools=["http_request"],
)
GENERAL = Agent(
    name="general",
    description="Answers questions and does what no other agent is made for, with every tool there is.",
    system_prompt="You are a helpful assistant. Use a tool only where it is needed.",
    tools=["*"],
)
ROUTER = Agent(
    name="router",
    description="Hands a task to the one agent that fits it best.",
    system_prompt="You decide which agent is to do a task. You do not do it yourself.",
    kind="router",
)
SUPERVISOR = Agent(
    name="supervisor",
    description="Divides a task, has agents do the parts, and combines what they found.",
    system_prompt="You lead a team of agents. Divide the task, give each part to the agent that fits it, one at a"
    " time, and combine their results.",
    kind="supervisor",
)

BUILT_IN = (FILE_OPS, SHELL, WEB, GENERAL)
LEADERS = (ROUTER, SUPERVISOR)
"""They have no tools but other agents; their names are taken."""
