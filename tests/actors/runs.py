"""Runs of agents, asked for as a client does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from fusionctl.client import Client
from fusiond.protocol.agents import RunDetail, RunEvent, RunId, RunReply, RunRequest
from fusiond.transport.ids import new_id


async def run(
    client: Client,
    agent: str,
    task: str = "",
    *,
    on_event: Callable[[RunEvent], None] | None = None,
    **more: Any,
) -> RunReply:
    """The reply to a `RunRequest`."""
    request = RunRequest(agent=agent, task=task, **{"run": new_id().hex(), **more})
    async for body, last in client.follow("agent", "run", msgspec.msgpack.encode(request)):
        if last:
            return msgspec.msgpack.decode(body, type=RunReply)
        if on_event is not None:
            on_event(msgspec.msgpack.decode(body, type=RunEvent))
    raise AssertionError("a stream ends with its reply")


async def recorded(client: Client, run: str) -> RunDetail:
    """What the store knows of a run."""
    body = await client.request("store", "runs.show", msgspec.msgpack.encode(RunId(run)))
    return msgspec.msgpack.decode(body, type=RunDetail)
