"""The batch actor: keeps every unfinished job going, and tells whoever watches how far it has come."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math

import msgspec

from fusiond.actors.base import Actor, Call, Port, decoded
from fusiond.actors.batch_job import Runner, progress_of
from fusiond.batches.pace import Pace
from fusiond.errors import FusionError, Interrupted, UsageError
from fusiond.protocol.batches import ENDED, BeginJob, Job, JobDetail, JobId, JobState, Move, Progress

log = logging.getLogger(__name__)

CONCURRENCY, LOCAL_CONCURRENCY = 32, 4
"""Items at once where nobody says; the embedded model answers so many at once."""

_LOCAL = "local"
_STORE = 30.0  # seconds the store has for a question
_AGAIN = 0.5  # seconds until a store that does not answer is asked again
_NEWS_EVERY = 0.2  # seconds between two words to somebody who watches

_encode = msgspec.msgpack.Encoder().encode
_decode_begin = msgspec.msgpack.Decoder(BeginJob).decode
_decode_id = msgspec.msgpack.Decoder(JobId).decode
_decode_jobs = msgspec.msgpack.Decoder(list[Job]).decode
_decode_job = msgspec.msgpack.Decoder(Job).decode
_decode_detail = msgspec.msgpack.Decoder(JobDetail).decode


class BatchConfig(msgspec.Struct, frozen=True):
    """`model`: the default, `provider/name`."""

    model: str


class Batch(Actor):
    """Serves `begin`, `submit`, `cancel`, `show`, `watch`."""

    def __init__(self, config: BatchConfig) -> None:
        self._model = config.model
        self._runners: dict[str, Runner] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._paces: dict[str, Pace] = {}
        self._leaving = asyncio.Event()
        self.verbs = {
            "begin": self._begin,
            "submit": self._submit,
            "cancel": self._cancel,
            "show": self._show,
            "watch": self._watch,
        }

    async def setup(self, port: Port) -> None:
        self._port = port
        self._resuming = asyncio.create_task(self._resume())

    def drain(self) -> None:
        self._leaving.set()
        self._resuming.cancel()
        for runner in self._runners.values():
            runner.leave()

    async def teardown(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    async def _resume(self, after: float = 0) -> None:
        """Goes on with what the store has unfinished, as soon as it says so."""
        await asyncio.sleep(after)
        while True:
            try:
                body = await self._port.request("store", "batches.unfinished", b"", timeout=_STORE)
            except FusionError as error:
                log.warning("the unfinished jobs are not known: %s", error)
                await asyncio.sleep(_AGAIN)
                continue
            for job in _decode_jobs(body):
                self._work_on(job)
            return

    # --- verbs -------------------------------------------------------------------------------------------------------

    async def _begin(self, call: Call) -> bytes:
        """A job is what its items are and the model that is asked: the default one too, if none is named."""
        ask = decoded(_decode_begin, call)
        model = ask.settings.model or self._model
        ask = msgspec.structs.replace(
            ask,
            key=hashlib.sha256(f"{ask.key}\n{model}".encode()).hexdigest(),
            settings=msgspec.structs.replace(ask.settings, model=model),
            uid=ask.uid if call.uid == -1 else call.uid,
        )
        body = await self._port.request(
            "store", "batches.begin", _encode(ask), timeout=call.remaining or _STORE
        )
        if ask.restart:
            for runner in self._runners.values():
                runner.check()
        return body

    async def _submit(self, call: Call) -> bytes:
        job = await self._move(call, "in_progress")
        if job.state == "validating":
            raise UsageError(
                f"of {job.request_counts.total} items of the job {job.id} only {job.received} are here",
                advice="hand over the others: run the command that began it again",
            )
        self._work_on(job)
        return _encode(job)

    async def _cancel(self, call: Call) -> bytes:
        before = await self._find(call)
        job = await self._move(call, "cancelling" if before.state == "in_progress" else "cancelled")
        if runner := self._runners.get(job.id):
            runner.cancel()
            await asyncio.wait({self._tasks[job.id]})
            job = await self._find(call)
        return _encode(job)

    async def _show(self, call: Call) -> bytes:
        detail = await self._find(call)
        if (runner := self._runners.get(detail.id)) and runner.reason:
            detail = msgspec.structs.replace(detail, reason=runner.reason)
        return _encode(detail)

    async def _watch(self, call: Call) -> bytes:
        job: Job = await self._find(call)
        last: Progress | None = None
        while True:
            task = self._tasks.get(job.id)
            if task is None:
                job = await self._find(call)
                progress = _waiting(job)
            else:
                runner = self._runners[job.id]
                job, progress = runner.job, runner.progress()
            if progress != last:
                call.emit(_encode(progress))
                last = progress
            if task is None and job.state in ENDED:
                return _encode(job)
            waited = {asyncio.ensure_future(self._leaving.wait()), *([task] if task else ())}
            await asyncio.wait(waited, timeout=_NEWS_EVERY, return_when=asyncio.FIRST_COMPLETED)
            if self._leaving.is_set():
                raise Interrupted("this process is being replaced")

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _find(self, call: Call) -> JobDetail:
        """The job that the call names, in the name of who calls."""
        ask = decoded(_decode_id, call)
        uid = ask.uid if call.uid == -1 else call.uid
        ask = msgspec.structs.replace(ask, uid=uid)
        return _decode_detail(
            await self._port.request("store", "batches.show", _encode(ask), timeout=call.remaining or _STORE)
        )

    async def _move(self, call: Call, state: JobState) -> Job:
        found = await self._find(call)
        move = Move(job=found.id, state=state)
        return _decode_job(
            await self._port.request("store", "batches.move", _encode(move), timeout=call.remaining or _STORE)
        )

    def _work_on(self, job: Job) -> None:
        if (runner := self._runners.get(job.id)) is not None:
            runner.pace.ceiling = max(runner.pace.ceiling, job.settings.concurrency)
            runner.refilled()
            return
        if job.state in (*ENDED, "validating") or self._leaving.is_set():
            return
        model = job.settings.model or self._model
        pace = self._pace(model.partition("/")[0], job.settings.concurrency)
        runner = Runner(
            self._port,
            job,
            model=model,
            pace=pace,
            share=lambda: self._share(pace),
            freed=lambda: self._freed(pace),
        )
        self._runners[job.id] = runner
        task = self._tasks[job.id] = asyncio.create_task(runner.run())
        task.add_done_callback(lambda task: self._ended(job.id, task))

    def _pace(self, provider: str, concurrency: int) -> Pace:
        """The provider's. As many at once as the most that one of its jobs wants."""
        usual = LOCAL_CONCURRENCY if provider == _LOCAL else CONCURRENCY
        if not any(self._runs(pace) for name, pace in self._paces.items() if name == provider):
            self._paces[provider] = Pace(concurrency or usual)
        pace = self._paces[provider]
        pace.ceiling = max(pace.ceiling, concurrency or usual)
        return pace

    def _runs(self, pace: Pace) -> int:
        return sum(runner.pace is pace for runner in self._runners.values())

    def _share(self, pace: Pace) -> int:
        """The places of one job: all jobs of a provider have the same."""
        return math.ceil(pace.limit / max(1, self._runs(pace)))

    def _freed(self, pace: Pace) -> None:
        for runner in self._runners.values():
            if runner.pace is pace:
                runner.wake()

    def _ended(self, id: str, task: asyncio.Task[None]) -> None:
        runner = self._runners.pop(id)
        del self._tasks[id]
        self._freed(runner.pace)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the work on job %s failed", id, exc_info=error)
        if not self._leaving.is_set():  # it may have been submitted again at this very moment
            self._resuming = asyncio.create_task(self._resume(_AGAIN))


def _waiting(job: Job) -> Progress:
    """Of a job that nobody works on."""
    progress = progress_of(job)
    if job.state != "validating":
        return progress
    return msgspec.structs.replace(progress, reason=f"{job.received:,} of its items have been handed over")


_decode_config = msgspec.msgpack.Decoder(BatchConfig).decode


def create(config: bytes) -> Batch:
    """The batch actor for a `BatchConfig`."""
    return Batch(_decode_config(config))
