"""The tools that are always there."""

from __future__ import annotations

from fusiond.tools.api import Tool
from fusiond.tools.settings import ToolsConfig


def built_in(config: ToolsConfig) -> list[Tool]:  # noqa: ARG001
    """One of each."""
    return []
