"""What the tools actor must be told, as it travels to it in `Assign.config`."""

from __future__ import annotations

from typing import Literal

import msgspec

from fusiond.config.schema import ToolsSettings


class ToolsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`settings`: `[tools]`. `folder`: where the configuration file is, and modules beside it.

    `workspace`: the folder that tools work in; made when it is first needed. `run_dir`: of the daemon's sockets.
    `servers`: the MCP servers by name, with their transport. `changed`: when the modules were written last.
    """

    settings: ToolsSettings
    folder: str
    workspace: str
    run_dir: str
    servers: dict[str, Literal["stdio", "http"]] = {}
    changed: list[int] = []
