"""Batch jobs from the client's side: handed over, watched, their results fetched. Everything here may be broken off at
any moment and done again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

import msgspec

from fusiond.errors import Busy
from fusiond.protocol.batches import (
    AddItems,
    BeginJob,
    Job,
    JobDetail,
    JobId,
    ListJobs,
    NewItem,
    Progress,
    ReadResults,
    Result,
)

if TYPE_CHECKING:
    from fusionctl.client import Client
    from fusiond.batches import Item

T = TypeVar("T")

_PIECE_BYTES = 1 << 20
_PIECE_ITEMS = 2000
_PAUSE = 0.5  # seconds before a full queue is tried again, where it does not say

_encode = msgspec.msgpack.Encoder().encode


class Jobs:
    """The jobs of whoever runs this. A job is named by its id or by the beginning of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def begin(self, begin: BeginJob) -> Job:
        """The job with this key; made if there is none."""
        return await self._ask("batch", "begin", begin, Job)

    async def add(self, job: Job, items: Iterable[Item]) -> Job:
        """Hands over the items that the daemon has not got yet; `items` are all of them, in order."""
        piece: list[NewItem] = []
        first, size = job.received, 0
        for item in items:
            if item.n < first + len(piece):
                continue
            piece.append(NewItem(item.id, item.url, item.body))
            size += len(item.body)
            if size >= _PIECE_BYTES or len(piece) >= _PIECE_ITEMS:
                job = await self._add(job, first, piece)
                first, piece, size = first + len(piece), [], 0
        return await self._add(job, first, piece) if piece else job

    async def _add(self, job: Job, first: int, piece: list[NewItem]) -> Job:
        return await self._ask("store", "batches.add", AddItems(job=job.id, first=first, items=piece), Job)

    async def submit(self, id: str) -> Job:
        """Has the job worked on, if it has not ended."""
        return await self._ask("batch", "submit", JobId(id), Job)

    async def cancel(self, id: str) -> Job:
        """Takes back what is in flight and ends the job; what has been answered stays."""
        return await self._ask("batch", "cancel", JobId(id), Job)

    async def show(self, id: str) -> JobDetail:
        return await self._ask("batch", "show", JobId(id), JobDetail)

    async def list(self, limit: int = 100) -> list[Job]:
        """The newest jobs."""
        return await self._ask("store", "batches.list", ListJobs(limit), list[Job])

    async def delete(self, id: str) -> Job:
        """Forgets a job that does not run; returns what it was."""
        return await self._ask("store", "batches.delete", JobId(id), Job)

    async def results(self, id: str) -> AsyncGenerator[Result, None]:
        """What became of the items, in order; those without a result are left out."""
        first = 0
        while True:
            page = await self._ask("store", "batches.results", ReadResults(id, first), list[Result])
            for result in page:
                yield result
            if not page:
                return
            first = page[-1].n + 1

    async def watch(self, id: str) -> AsyncGenerator[Progress | Job, None]:
        """How far the job has come, several times a second as long as something changes; at last the job itself."""
        stream = self._client.follow("batch", "watch", _encode(JobId(id)))
        async with aclosing(stream) as bodies:
            async for body, last in bodies:
                if last:
                    yield msgspec.msgpack.decode(body, type=Job)
                else:
                    yield msgspec.msgpack.decode(body, type=Progress)

    async def _ask(self, service: str, verb: str, body: msgspec.Struct, reply: type[T]) -> T:
        while True:
            try:
                answer = await self._client.request(service, verb, _encode(body))
            except Busy as busy:
                if type(busy) is not Busy:
                    raise
                await asyncio.sleep(busy.retry_after or _PAUSE)
            else:
                return msgspec.msgpack.decode(answer, type=reply)
