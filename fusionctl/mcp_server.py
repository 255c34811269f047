"""The MCP server `fusion`: the time, how the daemon is, and a search of its user's conversations.

A client of the daemon like any other program. The daemon starts it for its agents; any host of MCP servers may, as
`python -m fusionctl.mcp_server`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from fusionctl.client import Client
from fusiond import __version__
from fusiond.errors import FusionError

_MOST = 50

server = MCPServer("fusion", version=__version__, instructions="The machine that Fusion runs on.")


def _client() -> Client:
    return Client(autostart=False)


@server.tool()
def time(
    zone: Annotated[str, Field(description='an IANA time zone such as "Europe/Berlin"')] = "UTC",
) -> str:
    """The date and the time of day now, in ISO 8601 with the name of the weekday."""
    try:
        now = datetime.now(UTC if zone == "UTC" else ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ToolError(
            f"there is no time zone {zone!r}; an IANA name such as Europe/Berlin is wanted"
        ) from None
    return now.strftime("%A ") + now.isoformat(timespec="seconds")


@server.tool()
async def health() -> dict[str, Any]:
    """How the daemon is: its status, and for each of its processes the state, the memory and the restarts."""
    async with _client() as fusion:
        found = await _told(fusion.health())
    return {
        "status": found.status,
        "actors": [
            {
                "name": one.name,
                "state": one.state,
                "pid": one.pid,
                "restarts": one.restarts,
                "memory_mb": round((one.rss_bytes or 0) / 1e6),
            }
            for one in found.actors
        ],
    }


@server.tool()
async def search_sessions(
    words: Annotated[str, Field(description="what to look for in conversations")],
    limit: Annotated[int, Field(ge=1, le=_MOST, description="at most so many")] = 10,
) -> list[dict[str, Any]]:
    """Conversations in which these words were said: their ids, titles and dates, the newest first."""
    async with _client() as fusion:
        found = await _told(fusion.search_sessions(words, limit))
    return [msgspec.to_builtins(one) for one in found]


async def _told(asked: Any) -> Any:
    """An error of the daemon's in its own words."""
    try:
        return await asked
    except FusionError as error:
        raise ToolError(str(error)) from None


if __name__ == "__main__":
    server.run("stdio")
