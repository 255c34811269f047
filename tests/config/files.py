"""Configuration files for tests."""

from __future__ import annotations

from pathlib import Path

from fusiond.config import Config, Problem, check, load

EXAMPLE = """\
model = "openai/gpt-4o-mini"
[supervisor]
heartbeat_interval_ms = 250
heartbeat_timeout_ms = 2000
startup_timeout_s = 30
[router]
queue_size = 1024       # waiting requests a service; past it: busy
[sessions]
storage = "disk"        # or "memory"
[actors.llm]            # the same keys for agent, tools, batch, store, router
replicas = 1
standby = "auto"        # 1 for the embedded model, else 0
max_rss_mb = 0
[providers.openai]
api_key_env = "OPENAI_API_KEY"        # or api_key_file; systemd credentials by name
[providers.mylab]
kind = "openai"
base_url = "http://127.0.0.1:8000/v1"
[mcp.servers.time]                    # the mcpServers shape: command/args/env/cwd, or url/headers
command = "mcp-server-time"
[tools]
modules = ["my_tools"]
approval = {shell = "ask", write_file = "ask"}
[tools.shell]
allow = ["ls", "git status"]
timeout_s = 30
[agents]
modules = ["my_agents"]
[agents.reviewer]
description = "…"
system_prompt = "…"
tools = ["read_file", "mcp:time/*"]
"""
"""One of everything."""


def loaded(tmp_path: Path, text: str, env: dict[str, str] | None = None) -> Config:
    """What `text` as config.toml in `tmp_path` comes to."""
    file = tmp_path / "config.toml"
    file.write_text(text, "utf-8")
    return load(file, env or {})


def only(text: str) -> Problem:
    """The one problem of `text`."""
    (problem,) = check(text)
    return problem
