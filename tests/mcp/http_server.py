"""An MCP server over streamable HTTP on loopback: `python -m tests.mcp.http_server PORT SECRET`.

Whoever does not send `Authorization: Bearer SECRET` is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

import anyio
import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response

server = MCPServer("over-http", version="3")


@server.tool()
def double(n: int) -> int:
    """Twice as much."""
    return 2 * n


@server.tool()
async def slow(seconds: float, context: Context) -> str:
    """Takes its time, and says so."""
    for step in range(int(seconds * 10)):
        await context.report_progress(step, None, f"step {step}")
        await anyio.sleep(0.1)
    return "at last"


@server.tool()
async def grow(context: Context) -> str:
    """Adds a tool, and says so to whoever listens."""

    def late() -> str:
        """Came later."""
        return "did late"

    server.add_tool(late)
    await context.notify_tools_changed()
    return "grown"


def main() -> None:
    port, secret = int(sys.argv[1]), sys.argv[2]
    app = server.streamable_http_app()

    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.headers.get("authorization") != f"Bearer {secret}":
            return Response("no", status_code=401)
        return await go_on(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=guard)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    main()
