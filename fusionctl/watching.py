"""Follows a job to its end, and fetches what came out of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from fusionctl.invocation import notice
from fusionctl.progress import show

if TYPE_CHECKING:
    from fusionctl.jobs import Jobs
    from fusiond.protocol.batches import Job


async def follow(jobs: Jobs, job: Job, *, silent: bool, as_json: bool) -> Job:
    """The job as it has ended. Whoever breaks off is told how to come back: the daemon goes on."""
    from fusiond.protocol.batches import Progress

    try:
        with show(silent=silent, as_json=as_json) as view:
            async for word in jobs.watch(job.id):
                if isinstance(word, Progress):
                    view.tell(word)
                else:
                    return word
    except asyncio.CancelledError:
        notice(
            f"the job goes on in the daemon. To watch it: fusionctl batches watch {job.id}"
            f" — to end it: fusionctl batches cancel {job.id}"
        )
        raise
    raise AssertionError("the watch ends with the job")


async def put_results(jobs: Jobs, job: Job, out: Path | None) -> None:
    """One line for each item that has a result, in order, to `out` or standard output."""
    from fusionctl.batchfile import written
    from fusiond.batches import Failure, Response, result_line

    with written(out) as file:
        async for each in jobs.results(job.id):
            failed = Failure(each.code, each.message) if each.code else None
            answer = None if failed else Response(each.status, each.request, each.body)
            file.write(result_line(f"{job.id}.{each.n + 1}", each.custom_id, answer, failed) + b"\n")
