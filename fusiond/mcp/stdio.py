"""MCP over the pipes of a server's process: a message a line. What is no message is logged and otherwise ignored."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from fusiond.mcp.process import ServerProcess
from fusiond.tools.allowance import Allowance

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

log = logging.getLogger(__name__)

MAX_LINE = 32 << 20
"""Bytes of a message; a server that sends more in a line is out of its mind."""

_CHUNK = 256 * 1024
_SHOWN = 200  # bytes of what is no message
_HAND_OVER = 0.5  # seconds for what is still to be sent


@asynccontextmanager
async def speak(process: ServerProcess, on_end: Callable[[], None]) -> AsyncGenerator[TransportStreams, None]:
    """The SDK's two streams. The reading one ends when the server does, and `on_end` is told; the server's input ends
    with the context.
    """
    import anyio
    from mcp.shared.message import SessionMessage

    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_CHUNK)
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(process.stdout, "rb", buffering=0)
    )
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(process.stdin, "wb", buffering=0)
    )
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    from_server, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, to_server = anyio.create_memory_object_stream[SessionMessage](0)

    async def read() -> None:
        async with from_server:
            async for message in _messages(reader):
                await from_server.send(SessionMessage(message))

    async def write() -> None:
        async with to_server:
            async for message in to_server:
                line = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                writer.write(line.encode() + b"\n")
                await writer.drain()

    def gone(task: asyncio.Task[None]) -> None:
        on_end()
        if not task.cancelled() and (error := task.exception()):
            if not isinstance(error, OSError | anyio.BrokenResourceError | anyio.ClosedResourceError):
                log.warning("the connection to the server broke: %r", error)
            from_server.close()  # whoever waits for an answer is told

    reading, writing = asyncio.create_task(read()), asyncio.create_task(write())
    reading.add_done_callback(gone)
    writing.add_done_callback(gone)
    try:
        yield incoming, outgoing
    finally:
        outgoing.close()
        await asyncio.wait({writing}, timeout=_HAND_OVER)
        for task in (reading, writing):
            task.cancel()
        writer.close()
        incoming.close()


async def _messages(reader: asyncio.StreamReader) -> AsyncIterator[Any]:
    import mcp_types

    parse = mcp_types.jsonrpc_message_adapter.validate_json
    rubbish = _Rubbish()
    async for line in _lines(reader):
        try:
            yield parse(line, by_name=False)
        except ValueError:
            rubbish.log(line)


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Raises ValueError for one that is longer than MAX_LINE."""
    begun = bytearray()
    while piece := await reader.read(_CHUNK):
        *ended, rest = piece.split(b"\n")
        for line in ended:
            begun += line
            if begun.strip():
                yield bytes(begun)
            begun.clear()
        begun += rest
        if len(begun) > MAX_LINE:
            raise ValueError(f"the server sent a line of more than {MAX_LINE >> 20} MB")


class _Rubbish:
    """Lines on standard output that are no messages."""

    def __init__(self) -> None:
        self._allowance = Allowance()

    def log(self, line: bytes) -> None:
        admitted, dropped = self._allowance.admit(line[:_SHOWN])
        if dropped:
            log.warning("%d bytes that the server wrote to its standard output are left out here", dropped)
        if admitted:
            with suppress(ValueError):
                text = admitted.decode("utf-8", "replace")
                log.warning("the server wrote to its standard output what is no message: %s", text)
