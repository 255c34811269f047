"""What an MCP server's actor must be told, as it travels to it in `Assign.config`."""

from __future__ import annotations

import msgspec

from fusiond.config.schema import McpServer
from fusiond.protocol.tools import Approval


class McpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`own`: it is the server `fusion`, which is started when it is first needed.

    `connect_s`: seconds that it has to answer for the first time. `folder`: where the configuration file is, which
    relative paths start from. `run_dir`: of the daemon's sockets. `home`: as in `FUSION_HOME`, "" without one.
    """

    name: str
    server: McpServer
    own: bool
    approval: dict[str, Approval]
    max_output_bytes: int
    connect_s: float
    folder: str
    run_dir: str
    home: str = ""
