"""`fusionctl batch`: a file of prompts, answered whatever happens meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from fusionctl import output
from fusionctl.invocation import Invocation, notice
from fusionctl.watching import follow, put_results

if TYPE_CHECKING:
    from fusionctl.batchfile import BatchFile
    from fusionctl.jobs import Jobs
    from fusiond.batches import Survey
    from fusiond.protocol.batches import BeginJob, Job


@click.command(epilog="Example: fusionctl batch prompts.txt -o answers.jsonl")
@click.argument("file")
@click.option(
    "-o", "--output", "out", type=click.Path(path_type=Path, dir_okay=False), help="Where results go."
)
@click.option("-s", "--system", metavar="TEXT", help="The system prompt of items that have none.")
@click.option("-m", "--model", metavar="MODEL", default="", help="provider/name for items that name none.")
@click.option(
    "--format", "form", type=click.Choice(["auto", "text", "jsonl"]), default="auto", help="Of FILE."
)
@click.option("--concurrency", type=click.IntRange(1, 4096), help="At most so many at once.")
@click.option("--rpm", type=click.IntRange(1), help="At most so many requests a minute.")
@click.option("--tpm", type=click.IntRange(1), help="At most so many tokens a minute.")
@click.option(
    "--max-attempts", type=click.IntRange(1, 100), default=3, show_default=True, help="Tries for each item."
)
@click.option("--restart", is_flag=True, help="Begin anew, whatever has been done of it.")
@click.option("--retry-errors", is_flag=True, help="Ask the failed items again.")
@click.option("--detach", is_flag=True, help="Hand it over and print the job's id.")
@click.option("--no-progress", is_flag=True, help="Show nothing on the way.")
@click.option("--json", "as_json", is_flag=True, help="Progress as JSON, a line each; results then need -o.")
@click.pass_obj
def batch(
    invocation: Invocation,
    file: str,
    out: Path | None,
    system: str | None,
    model: str,
    form: str,
    concurrency: int | None,
    rpm: int | None,
    tpm: int | None,
    max_attempts: int,
    restart: bool,
    retry_errors: bool,
    detach: bool,
    no_progress: bool,
    as_json: bool,
) -> int:
    """Answer the prompts of FILE: one a line, or JSON lines. `-` is standard input.

    The same command again goes on where the first one stopped, and asks nothing twice. Ctrl-C leaves the job
    running in the daemon.
    """
    if out is not None and out.exists() and Path(file).exists() and out.samefile(file):
        raise click.UsageError(f"{out} is the file of prompts itself — name another file for the results")
    if out is not None and not out.resolve().parent.is_dir():
        raise click.UsageError(f"there is no folder {out.resolve().parent} — make it, or name another file")
    import asyncio

    from fusionctl.batchfile import opened
    from fusiond.batches import survey
    from fusiond.protocol.batches import BeginJob, JobSettings

    with opened(file) as batch_file:
        found = survey(batch_file.lines, format=form, system=system)  # type: ignore[arg-type]
        if found.problem_count:
            return _complain(file, found)
        if form == "auto" and found.format == "text" and _begins_with_a_brace(batch_file):
            raise click.UsageError(
                f"the first line of {file} begins like JSON but is no item — correct it, or say --format text"
            )
        begin = BeginJob(
            key=found.digest,
            source=batch_file.name,
            total=found.total,
            settings=JobSettings(
                model=model,
                concurrency=concurrency or 0,
                rpm=rpm or 0,
                tpm=tpm or 0,
                max_attempts=max_attempts,
            ),
            restart=restart,
            retry_errors=retry_errors,
        )
        return asyncio.run(
            _run(invocation, batch_file, found, system, begin, out, detach, no_progress, as_json)
        )


async def _run(
    invocation: Invocation,
    file: BatchFile,
    found: Survey,
    system: str | None,
    begin: BeginJob,
    out: Path | None,
    detach: bool,
    no_progress: bool,
    as_json: bool,
) -> int:
    from fusionctl.client import Client
    from fusionctl.jobs import Jobs
    from fusiond.errors import ModelMissing

    async with Client(invocation.home, autostart=invocation.autostart) as client:
        jobs = Jobs(client)
        job = await _hand_over(jobs, file, found, system, begin)
        if detach:
            if as_json:
                output.put_json(job_document(job))
            else:
                output.put([job.id])
            return 0
        job = await follow(jobs, job, silent=no_progress, as_json=as_json)
        if job.code == ModelMissing.code:
            from fusionctl.fetching import fetch_embedded_model

            await fetch_embedded_model(invocation.home)
            job = await follow(jobs, await jobs.submit(job.id), silent=no_progress, as_json=as_json)
        if not as_json or out is not None:
            await put_results(jobs, job, out)
        return verdict(job)


async def _hand_over(jobs: Jobs, file: BatchFile, found: Survey, system: str | None, begin: BeginJob) -> Job:
    """Has the job made, or found, and worked on."""
    from fusiond.batches import Digest, items

    job = await jobs.begin(begin)
    if job.received < job.request_counts.total:
        digest = Digest()
        job = await jobs.add(job, digest.of(items(file.lines, format=found.format, system=system)))
        if digest.hex() != found.digest:
            await jobs.delete(job.id)
            raise click.UsageError("the file has changed since it was checked — run the same command again")
    elif not begin.restart:
        done = job.request_counts.completed + job.request_counts.failed
        notice(f"job {job.id}: going on, {done} of {job.request_counts.total} done before")
    return await jobs.submit(job.id)


def _begins_with_a_brace(file: BatchFile) -> bool:
    """Taken for text, each of its lines would be sent as a prompt: costly, if JSON was meant."""
    return next((line.lstrip(b"\xef\xbb\xbf \t") for line in file.lines() if line.strip()), b"").startswith(
        b"{"
    )


def _complain(name: str, found: Survey) -> int:
    """What is wrong with the file, a line each."""
    where = "standard input" if name == "-" else name
    for problem in found.problems:
        output.complain(
            f"{where}, line {problem.line}: {problem.why}" if problem.line else f"{where}: {problem.why}"
        )
    if (more := found.problem_count - len(found.problems)) > 0:
        output.complain(f"{where}: and {more:,} more lines like these")
    notice("nothing has been sent; correct the file and run the same command again")
    return click.UsageError.exit_code


def job_document(job: Job) -> dict[str, object]:
    """A job as programs read it."""
    document = msgspec.to_builtins(job)
    keys = ("id", "state", "created", "source", "request_counts", "asked_twice", "reason")
    return {key: document[key] for key in keys}


def verdict(job: Job) -> int:
    """The exit code that says how a job has ended; a line on standard error says more."""
    counts = job.request_counts
    if job.state == "completed":
        if job.asked_twice:
            notice(
                f"{job.asked_twice} items may have been asked twice: in flight when a process died, or at a cancel"
            )
        if counts.failed:
            notice(f"{counts.failed} of {counts.total} items failed; ask them again with --retry-errors")
            return 3
        return 0
    reason = f": {job.reason}" if job.reason else ""
    output.complain(f"the job {job.id} has {job.state}{reason} — run the same command again to go on")
    return 1
