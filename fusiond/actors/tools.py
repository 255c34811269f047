"""The tools actor: knows every tool, and runs those that are not an MCP server's in workers."""

from __future__ import annotations

from fusiond.actors.base import Actor


def create(config: bytes) -> Actor:  # noqa: ARG001
    """The actor for a `ToolsConfig`."""
    return Actor()
