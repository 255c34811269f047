"""A connection to one MCP server, entered and left in one task of its own, as the SDK wants it."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusiond import __version__
from fusiond.errors import FusionError
from fusiond.mcp.process import ServerProcess, environment_for, start
from fusiond.mcp.settings import McpConfig
from fusiond.paths import TREE

if TYPE_CHECKING:
    from mcp import Client
    from mcp.client._transport import TransportStreams

log = logging.getLogger(__name__)

_OWN = [sys.executable, "-P", "-m", "fusionctl.mcp_server"]
_PARTING = 4.0  # seconds to close a connection; a server's process has less
_AGAIN = 1.0  # seconds after which a lost subscription is asked for again
_SELDOM = 30.0  # and more and more seldom
_SYSTEMD = ("RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CONFIGURATION_DIRECTORY", "CACHE_DIRECTORY")


class Connection:
    """`on_lost`: is told why an open connection has ended by itself. `on_changed`: its tools may be others now."""

    def __init__(
        self, config: McpConfig, on_lost: Callable[[FusionError], None], on_changed: Callable[[], None]
    ) -> None:
        self._config = config
        self._on_lost = on_lost
        self._on_changed = on_changed
        self._opened: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.process: ServerProcess | None = None
        self._status = ""
        self.over = False
        """Nothing that is said from now on reaches the server."""
        self.heard = 0
        """Counts what came from the server without being asked for."""

    @property
    def client(self) -> Client:
        """Of an open connection."""
        return self._opened.result()

    async def open(self) -> None:
        """Raises FusionError, in the server's own words where it has some."""
        self._task = asyncio.create_task(self._live())
        limit = self._config.connect_s
        done, _ = await asyncio.wait({self._opened}, timeout=limit)
        if not done:
            raise FusionError(f"the MCP server did not answer initialize within {limit:g} s")
        self._opened.result()

    async def close(self) -> None:
        """Also one that is not open yet."""
        if self._task is None:
            return
        if self._opened.done():
            self._closing.set()
        else:
            self._task.cancel()
        await asyncio.wait({self._task}, timeout=_PARTING)
        if not self._task.done():  # a server over HTTP that hangs is asked to forget our session, for minutes
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=1.0)

    async def is_alive(self, patience: float) -> bool:
        """Whether the server answers at all."""
        session = self.client.session
        heard = self.heard
        try:
            async with asyncio.timeout(patience):
                if session.discover_result is not None:
                    await session.send_discover(self.client.protocol_version)
                else:
                    await session.send_ping()  # pyright: ignore[reportDeprecated]
        except TimeoutError:
            return self.heard > heard
        except Exception as error:
            return _is_an_answer(error)
        return True

    async def listen(self) -> None:
        """Hears of other tools from a server that must be asked to say so: from protocol 2026-07-28 on."""
        from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
        from mcp.shared.exceptions import MCPError
        from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND

        pause = _AGAIN
        while not self.over:
            try:
                async with self.client.listen(tools_list_changed=True) as changes:
                    self._on_changed()  # what was said before nobody has heard
                    async for _ in changes:
                        self.heard += 1
                        self._on_changed()
            except ListenNotSupportedError:
                return
            except MCPError as error:
                if error.code in (METHOD_NOT_FOUND, INVALID_PARAMS):
                    log.info("the server does not say when its tools change: %s", error)
                    return
            except (SubscriptionLost, TimeoutError):
                pass
            else:  # closed in good order
                if not changes.honored.tools_list_changed:
                    return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _SELDOM)

    # --- the task that lives in it -----------------------------------------------------------------------------------

    async def _live(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                transport = await stack.enter_async_context(self._transport())
                client = await stack.enter_async_context(self._client(transport))
                self._opened.set_result(client)
                await self._until_over()
        except asyncio.CancelledError:
            self._fail(FusionError("the connection was closed"))
            raise
        except Exception as error:
            self._fail(self._told(error))

    async def _until_over(self) -> None:
        """Raises FusionError if the server ends before we want it to."""
        closing = asyncio.ensure_future(self._closing.wait())
        if self.process is None:
            await closing
            return
        ended = asyncio.ensure_future(self.process.ended())
        await asyncio.wait({closing, ended}, return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        if ended.done() and not self._closing.is_set():
            error = FusionError(f"the MCP server ended: {ended.result()}")
            self._on_lost(error)  # at once: letting go of the connection takes its time
            raise error
        ended.cancel()

    def _refused(self, status: str) -> None:
        self._status = status

    def _end(self) -> None:
        self.over = True

    def _fail(self, error: FusionError) -> None:
        if not self._opened.done():
            self._opened.set_exception(error)
        elif not self._closing.is_set():
            self._on_lost(error)

    @asynccontextmanager
    async def _transport(self) -> AsyncGenerator[Any, None]:
        """What the SDK's client takes as one."""
        if self._config.server.url:
            yield _over_http(self._config, self._refused)
            return
        process = self.process = self._start()
        try:
            from fusiond.mcp.stdio import speak  # by now the server is starting, beside us

            yield speak(process, self._end)
        finally:
            await process.close()

    def _start(self) -> ServerProcess:
        server, folder = self._config.server, Path(self._config.folder)
        environment = environment_for(server.env) | {TREE: self._config.run_dir}
        if self._config.own:
            environment |= {name: os.environ[name] for name in _SYSTEMD if name in os.environ}
            if self._config.home:
                environment["FUSION_HOME"] = self._config.home
            argv = _OWN
        else:
            command = server.command
            if "/" in command:  # beside the configuration, not in the server's folder
                command = str(folder / Path(command).expanduser())
            argv = [command, *server.args]
        where = folder / Path(server.cwd).expanduser() if server.cwd else folder
        title = f"fusiond: mcp.{self._config.name}.keeper"
        return start(argv, environment, where, title, apart=not self._config.own)  # ours must find the daemon

    def _client(self, transport: Any) -> Client:
        from mcp import Client
        from mcp_types import Implementation

        return Client(
            transport,
            cache=None,  # what we keep we keep ourselves
            message_handler=self._hear,
            client_info=Implementation(name="fusion", version=__version__),
        )

    async def _hear(self, message: Any) -> None:
        self.heard += 1
        if getattr(message, "method", "") == "notifications/tools/list_changed":
            self._on_changed()

    def _told(self, error: BaseException) -> FusionError:
        """In words; groups as their first error, and no secret of the configuration in them."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, FusionError):
            return error
        ended = self.process is not None and not self.process.pids
        if ended or "Connection closed" in str(error):
            return FusionError("the MCP server ended before it had answered", advice=self._advice())
        words = f"HTTP {self._status}" if self._status else without_secrets(error, self._config)
        return FusionError(f"the MCP server cannot be reached: {words}", advice=self._advice())

    def _advice(self) -> str:
        return f"see fusionctl logs mcp.{self._config.name}"


@asynccontextmanager
async def _over_http(
    config: McpConfig, on_refused: Callable[[str], None]
) -> AsyncGenerator[TransportStreams, None]:
    """`on_refused`: is told the status of an answer that is none; the SDK keeps it to itself."""
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    logging.getLogger("httpx2").setLevel("WARNING")  # it logs every address

    async def look(response: httpx2.Response) -> None:
        if response.status_code >= 400:
            on_refused(f"{response.status_code} {response.reason_phrase}")

    limits = httpx2.Timeout(30, read=max(300, config.server.timeout_s))
    async with (
        httpx2.AsyncClient(
            headers=config.server.headers, timeout=limits, event_hooks={"response": [look]}
        ) as http,
        streamable_http_client(config.server.url, http_client=http) as streams,
    ):
        yield streams


def without_secrets(error: BaseException, config: McpConfig) -> str:
    """What an error says, without the values of headers and environment, and without the query of the URL."""
    text = str(error) or type(error).__name__
    for secret in (*config.server.headers.values(), *config.server.env.values()):
        if len(secret) > 3:
            text = text.replace(secret, "…")
    return re.sub(r"\?[^\s'\"]*", "?…", text) if "?" in config.server.url else text


def _is_an_answer(error: Exception) -> bool:
    """An error that the server itself has sent says that it lives."""
    from mcp.shared.exceptions import MCPError
    from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT

    return isinstance(error, MCPError) and error.code not in (CONNECTION_CLOSED, REQUEST_TIMEOUT)
