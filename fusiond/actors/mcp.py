"""An MCP server's actor: one process for each, so that a wedged server hurts no other."""

from __future__ import annotations

from fusiond.actors.base import Actor


def create(config: bytes) -> Actor:  # noqa: ARG001
    """The actor for an `McpConfig`."""
    return Actor()
