"""`fusionctl batches`: the jobs that `fusionctl batch` has begun."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from fusionctl import output, render
from fusionctl.commands.batch import job_document, verdict
from fusionctl.invocation import Invocation

if TYPE_CHECKING:
    from fusionctl.jobs import Jobs

T = TypeVar("T")

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group(epilog="Example: fusionctl batches watch lusab")
def batches() -> None:
    """List, watch, cancel batch jobs; fetch their results."""


@batches.command("list", epilog="Example: fusionctl batches list --json")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@_JSON
@click.pass_obj
def list_(invocation: Invocation, limit: int, as_json: bool) -> None:
    """List the newest jobs."""
    found = _with_jobs(invocation, lambda jobs: jobs.list(limit))
    if as_json:
        output.put_json([job_document(job) for job in found])
    else:
        output.put(render.jobs(found, datetime.now(UTC), output.painter()))


@batches.command(epilog="Example: fusionctl batches show lusab")
@click.argument("id")
@_JSON
@click.pass_obj
def show(invocation: Invocation, id: str, as_json: bool) -> None:
    """Show the job ID with its figures; the beginning of an id is enough."""
    job = _with_jobs(invocation, lambda jobs: jobs.show(id))
    if as_json:
        document: dict[str, Any] = msgspec.to_builtins(job)
        more = (
            "updated",
            "began",
            "ended",
            "retries",
            "input_tokens",
            "output_tokens",
            "latency_ms",
            "settings",
        )
        output.put_json(job_document(job) | {key: document[key] for key in more})
    else:
        output.put(render.job(job, datetime.now(UTC), output.painter()))


@batches.command(epilog="Example: fusionctl batches watch lusab")
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each step.")
@click.pass_obj
def watch(invocation: Invocation, id: str, as_json: bool) -> int:
    """Follow the job ID to its end."""
    from fusionctl.watching import follow

    async def run(jobs: Jobs) -> int:
        job = await jobs.show(id)
        return verdict(await follow(jobs, job, silent=False, as_json=as_json))

    return _with_jobs(invocation, run)


@batches.command(epilog="Example: fusionctl batches cancel lusab")
@click.argument("id")
@_JSON
@click.pass_obj
def cancel(invocation: Invocation, id: str, as_json: bool) -> None:
    """End the job ID: what is in flight is taken back at the provider, what is done stays."""
    job = _with_jobs(invocation, lambda jobs: jobs.cancel(id))
    if as_json:
        output.put_json(job_document(job))
    else:
        output.put([render.job_line(job)])


@batches.command(epilog="Example: fusionctl batches results lusab -o answers.jsonl")
@click.argument("id")
@click.option("-o", "--output", "out", type=click.Path(path_type=Path, dir_okay=False), help="Where they go.")
@click.pass_obj
def results(invocation: Invocation, id: str, out: Path | None) -> None:
    """Write what the job ID has brought so far, a line of JSON for each item, in order."""
    from fusionctl.watching import put_results

    async def run(jobs: Jobs) -> None:
        await put_results(jobs, await jobs.show(id), out)

    _with_jobs(invocation, run)


@batches.command(epilog="Example: fusionctl batches delete lusab")
@click.argument("id")
@click.pass_obj
def delete(invocation: Invocation, id: str) -> None:
    """Delete the job ID with its items and results, for good."""
    gone = _with_jobs(invocation, lambda jobs: jobs.delete(id))
    click.echo(f"deleted: {gone.id}")


def _with_jobs(invocation: Invocation, call: Callable[[Jobs], Awaitable[T]]) -> T:
    """What `call` gives, asked in an event loop of its own."""
    import asyncio

    from fusionctl.client import Client
    from fusionctl.jobs import Jobs

    async def run() -> T:
        async with Client(invocation.home, autostart=invocation.autostart) as client:
            return await call(Jobs(client))

    return asyncio.run(run())
