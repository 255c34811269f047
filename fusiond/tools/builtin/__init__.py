"""The tools that are always there."""

from __future__ import annotations

from fusiond.tools.api import Tool
from fusiond.tools.builtin.files import file_tools
from fusiond.tools.builtin.http import HttpRequest
from fusiond.tools.builtin.shell import Shell
from fusiond.tools.settings import ToolsConfig


def built_in(config: ToolsConfig) -> list[Tool]:
    """One of each."""
    settings = config.settings
    return [
        Shell(config.workspace, settings),
        *file_tools(config.workspace),
        HttpRequest(settings.http),
    ]
