"""One job being worked on: gives its items to models, and what comes back to the store.

The store knows which items have no result; this only holds some of them for a while. So it may die at any moment: its
successor is given again what it held.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections import deque
from collections.abc import Callable

import msgspec

from fusiond.actors.base import Port, Stream
from fusiond.batches.pace import Budget, Pace
from fusiond.errors import (
    BadRequest,
    Busy,
    Cancelled,
    ConfigError,
    Denied,
    FusionError,
    NotFound,
    NotRunning,
    PoisonRequest,
    ProviderDown,
    UnknownModel,
)
from fusiond.protocol.batches import (
    ENDED,
    Claimed,
    Job,
    JobState,
    Move,
    Outcome,
    Progress,
    RequestCounts,
    Step,
    Stepped,
)
from fusiond.protocol.chat import Relayed, RelayRequest

log = logging.getLogger(__name__)

_STORE = 30.0  # seconds the store has for a step
_AGAIN = 1.0  # seconds until a store that refused is asked again
_LOOK = 1.0  # seconds between looks for items where none is held
_STEP_BYTES = 16 << 20  # of results in one step, or one result if it is larger
_MOST_REFUSALS = 20  # of one item by a provider that has time for others
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds before an item is asked again
_BYTES_A_TOKEN = 4  # an estimate, until the provider says what it was
_SAMPLE_EVERY, _SAMPLES = 0.5, 20  # of the rate: over the last ten seconds

_encode = msgspec.msgpack.Encoder().encode
_decode_stepped = msgspec.msgpack.Decoder(Stepped).decode
_decode_job = msgspec.msgpack.Decoder(Job).decode
_decode_relayed = msgspec.msgpack.Decoder(Relayed).decode


class _Item:
    """An item held. `asks`: how often it was given to a process that died with it, and once; `tries`: errors so far.

    `refused`: how often the provider had no time for it; `failing_since`: when that, or an error, happened first.
    """

    __slots__ = (
        "asked_at",
        "asks",
        "body",
        "estimate",
        "failing_since",
        "n",
        "refused",
        "task",
        "tries",
        "url",
    )

    def __init__(self, claimed: Claimed) -> None:
        self.n, self.url, self.body, self.tries = claimed.n, claimed.url, claimed.body, claimed.tries
        self.asks = 1
        self.refused = 0
        self.failing_since: float | None = None
        self.asked_at = 0.0
        self.estimate = len(claimed.body) / _BYTES_A_TOKEN
        self.task: asyncio.Task[None] | None = None


class Runner:
    """Works on `job` from `run`'s beginning to its end.

    `pace`: the provider's, shared with other jobs; `share`: how many of its places are ours at most. `freed` is called
    when a place has become free.
    """

    def __init__(
        self,
        port: Port,
        job: Job,
        *,
        model: str,
        pace: Pace,
        share: Callable[[], int],
        freed: Callable[[], None],
    ) -> None:
        self.job = job
        self.pace = pace
        self._port, self._model, self._share, self._freed = port, model, share, freed
        self._loop = asyncio.get_running_loop()
        self._items: dict[int, _Item] = {}  # everything held, by number
        self._ready: deque[_Item] = deque()
        self._later: list[tuple[float, int]] = []  # a heap of (when, number)
        self._asking: set[_Item] = set()
        self._outcomes: list[Outcome] = []
        self._retried: list[int] = []
        self._put_off = 0
        self._cut: set[int] = set()  # in flight when they were taken back
        self._check = False
        self._dry = False  # the store has no more items for us
        self._wanted: JobState | None = None  # where it is to end, if not by itself
        self._leaving = False
        self._why: FusionError | None = None
        self._trouble = ""  # of the store
        self._wake = asyncio.Event()
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self._budgets(job)

    # --- from outside ------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        self._wake.set()

    def cancel(self) -> None:
        """What is in flight is taken back at the provider; what has been answered stays."""
        self._end_as("cancelled")

    def leave(self) -> None:
        """Begins nothing new, finishes what is in flight; `run` then returns, and somebody else goes on."""
        self._leaving = True
        self.wake()

    def refilled(self) -> None:
        """There may be items for us again."""
        self._dry = False
        self.wake()

    def check(self) -> None:
        """The job may be gone."""
        self._check = True
        self.wake()

    @property
    def places(self) -> int:
        """How many items may be asked at once by its own settings."""
        return self.job.settings.concurrency or self.pace.ceiling

    @property
    def reason(self) -> str:
        """Why it does not go on as it should, "" if it does."""
        return self._trouble or self.pace.reason or self.job.reason

    def progress(self) -> Progress:
        rate = self._rate()
        left = self.job.request_counts.total - _done(self.job.request_counts)
        return msgspec.structs.replace(
            progress_of(self.job),
            in_flight=len(self._asking),
            rate=rate,
            left_s=round(left / rate, 1) if rate else None,
            reason=self.reason,
        )

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Returns when the job has ended, or when it is to be left to somebody else."""
        try:
            while self.job.state not in ENDED:
                now = self._loop.time()
                while self._later and self._later[0][0] <= now:
                    self._ready.append(self._items[heapq.heappop(self._later)[1]])
                room = self._room(now)
                while room > 0 and self._ready:
                    self._ask(self._ready.popleft(), now)
                    room -= 1
                if self._wanted is not None:
                    await self._finish(self._wanted, self._why)
                elif self._leaving and not self._asking:
                    await self._step(0, back=list(self._items))
                    if not self._trouble:
                        return
                elif self.job.state == "finalizing":
                    await self._move("completed")
                elif (
                    self._check
                    or self._outcomes
                    or self._retried
                    or (room > 0 and not self._dry and not self._leaving)
                ):
                    await self._step(room if not self._dry and not self._leaving else 0)
                else:
                    await self._sleep(now)
        except NotFound:  # it has been deleted
            return
        finally:
            for item in self._asking:
                if item.task is not None:
                    item.task.cancel()

    def _room(self, now: float) -> int:
        if self._leaving or self._wanted is not None:
            return 0
        room = min(min(self.places, self._share()) - len(self._asking), self.pace.room(now))
        if self._requests is not None:
            room = min(room, int(self._requests.left(now)))
        if self._tokens is not None and self._tokens.left(now) < 1:
            room = 0
        return room

    async def _sleep(self, now: float) -> None:
        """Until something has happened, or the time of something has come."""
        times = [self._later[0][0]] if self._later else []
        if not self._items:
            times.append(
                now + _LOOK
            )  # nothing is held, and yet it has not ended: somebody has added something
        if self._ready or not self._dry:
            times += [
                now + budget.wait(now) for budget in (self._requests, self._tokens) if budget is not None
            ]
            times.append(self.pace.closed_until)
        ahead = [when for when in times if when > now]
        try:
            async with asyncio.timeout_at(min(ahead) if ahead else None):
                await self._wake.wait()
        except TimeoutError:
            self._dry = self._dry and bool(self._items)
            return
        self._wake.clear()

    async def _step(self, want: int, back: list[int] | None = None) -> None:
        """One exchange with the store. What it does not take is offered again."""
        self._check = False
        outcomes, self._outcomes = _as_many_as_fit(self._outcomes)
        retried, self._retried = self._retried, []
        put_off, self._put_off = self._put_off, 0
        step = Step(
            job=self.job.id,
            have=[] if back else list(self._items),
            outcomes=outcomes,
            retried=retried,
            put_off=put_off,
            back=back or [],
            want=want,
        )
        try:
            reply = _decode_stepped(
                await self._port.request("store", "batches.step", _encode(step), timeout=_STORE)
            )
        except NotFound:
            raise
        except FusionError as error:
            self._outcomes, self._retried = outcomes + self._outcomes, retried + self._retried
            self._put_off += put_off
            self._trouble = error.message
            log.warning("job %s waits: %s", self.job.id, error)
            await asyncio.sleep(_AGAIN)
            return
        self._trouble = ""
        self._budgets(reply.job)
        self.job = reply.job
        for outcome in outcomes:
            del self._items[outcome.n]
        for claimed in reply.items:
            item = self._items[claimed.n] = _Item(claimed)
            self._ready.append(item)
        self._dry = self._dry or (want > 0 and not reply.items)
        if self.job.state == "cancelling":
            self.cancel()
        self._sample()

    async def _move(self, state: JobState, why: FusionError | None = None) -> None:
        move = Move(
            job=self.job.id, state=state, reason=str(why) if why else "", code=why.code if why else ""
        )
        try:
            self.job = _decode_job(
                await self._port.request("store", "batches.move", _encode(move), timeout=_STORE)
            )
            self._trouble = ""
        except NotFound:
            raise
        except FusionError as error:
            self._trouble = error.message
            await asyncio.sleep(_AGAIN)

    def _end_as(self, state: JobState, why: FusionError | None = None) -> None:
        if self._wanted is None or state == "cancelled":
            self._wanted, self._why = state, why
            for item in list(self._asking):
                if item.task is not None:
                    item.task.cancel()
            self.wake()

    async def _finish(self, state: JobState, why: FusionError | None) -> None:
        """Ends before all is done: what is in flight has been taken back; the rest is the store's again."""
        if self._asking:
            await asyncio.wait([item.task for item in self._asking if item.task is not None])
        while self._outcomes and not self._trouble:
            await self._step(0)
        await self._step(0, back=[n for n in self._items if n not in self._cut] or None)
        if self._trouble:
            return
        await self._move(state, why)
        if self.job.state == "cancelling":
            self._wanted = "cancelled"
        elif self.job.state not in ENDED:  # all was done before it could be ended
            self._wanted = None

    # --- one item ----------------------------------------------------------------------------------------------------

    def _ask(self, item: _Item, now: float) -> None:
        request = RelayRequest(url=item.url, body=item.body, model=self._model)
        self.pace.asked()
        item.asked_at = now
        if self._requests is not None:
            self._requests.spend(1)
        if self._tokens is not None:
            self._tokens.spend(item.estimate)
        self._asking.add(item)
        item.task = self._loop.create_task(
            self._await(item, self._port.stream("llm", "relay", _encode(request)))
        )

    async def _await(self, item: _Item, stream: Stream) -> None:
        try:
            reply = await stream.result()
            item.asks += stream.attempt - 1
            self._answered(item, _decode_relayed(reply))
        except asyncio.CancelledError:
            self._cut.add(item.n)
            stream.cancel()
            raise
        except FusionError as error:
            item.asks += stream.attempt - 1
            self._failed(item, error)
        finally:
            self._asking.discard(item)
            self.pace.gone()
            self.wake()
            self._freed()

    def _answered(self, item: _Item, reply: Relayed) -> None:
        self.pace.answered(self._loop.time())
        usage = reply.usage
        used_in, used_out = usage.input_tokens or 0, usage.output_tokens or 0
        if self._tokens is not None:
            self._tokens.spend(used_in + used_out - item.estimate)
        self._outcomes.append(
            Outcome(
                n=item.n,
                asks=item.asks,
                ms=round((self._loop.time() - item.asked_at) * 1000, 1),
                status=reply.status,
                request=reply.request,
                body=reply.body,
                input_tokens=used_in,
                output_tokens=used_out,
            )
        )

    def _failed(self, item: _Item, error: FusionError) -> None:
        """What an error means: for this item, for the provider, or for the whole job."""
        now = self._loop.time()
        if item.failing_since is None:
            item.failing_since = now
        others_are_answered = self.pace.answered_at > item.failing_since
        if isinstance(error, Cancelled):  # a router that was drained; it was not the item's doing
            self._ready.appendleft(item)
        elif isinstance(error, UnknownModel) and b'"model"' in item.body:
            self._give_up(item, error)
        elif isinstance(error, Denied | ConfigError):
            self._ready.appendleft(item)
            self._end_as("failed", error)
        elif isinstance(error, BadRequest | PoisonRequest):
            self.pace.answered(now)
            self._give_up(item, error)
        elif isinstance(error, ProviderDown):
            down = self.pace.failed(now, (self.job.id, item.n), error.message)
            if down and not others_are_answered:
                self._put_off += 1
                self._ready.append(item)
            else:
                self._try_again(item, error, now)
        elif isinstance(error, Busy | NotRunning):
            self.pace.slow_down(now, item.asked_at, error.retry_after, error.message)
            item.refused += 1
            if item.refused >= _MOST_REFUSALS and others_are_answered:
                self._give_up(item, error)
                return
            self._put_off += 1
            self._ready.append(item)
        else:
            self._try_again(item, error, now)

    def _try_again(self, item: _Item, error: FusionError, now: float) -> None:
        item.tries += 1
        if item.tries >= self.job.settings.max_attempts:
            self._give_up(item, error)
            return
        self._retried.append(item.n)
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**item.tries)
        heapq.heappush(self._later, (now + pause * random.uniform(0.5, 1), item.n))  # noqa: S311 — jitter

    def _give_up(self, item: _Item, error: FusionError) -> None:
        ms = round((self._loop.time() - item.asked_at) * 1000, 1)
        self._outcomes.append(Outcome(n=item.n, asks=item.asks, ms=ms, code=error.code, message=str(error)))

    # --- figures -----------------------------------------------------------------------------------------------------

    def _budgets(self, job: Job) -> None:
        """Takes over limits that are new or have changed."""
        now, before, after = self._loop.time(), self.job.settings, job.settings
        if job is self.job or before.rpm != after.rpm:
            self._requests = Budget(after.rpm, now) if after.rpm else None
        if job is self.job or before.tpm != after.tpm:
            self._tokens = Budget(after.tpm, now) if after.tpm else None

    def _sample(self) -> None:
        now, counts = self._loop.time(), self.job.request_counts
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE_EVERY:
            self._samples.append((now, _done(counts)))

    def _rate(self) -> float | None:
        if not self._samples:
            return None
        (began, before), now = self._samples[0], self._loop.time()
        done = _done(self.job.request_counts) - before
        return round(done / (now - began), 2) if done and now - began >= _SAMPLE_EVERY else None


def _done(counts: RequestCounts) -> int:
    return counts.completed + counts.failed


def progress_of(job: Job) -> Progress:
    """What the job itself says of how far it has come."""
    counts = job.request_counts
    return Progress(
        job=job.id,
        state=job.state,
        total=counts.total,
        completed=counts.completed,
        failed=counts.failed,
        in_flight=0,
        asked_twice=job.asked_twice,
        input_tokens=job.input_tokens,
        output_tokens=job.output_tokens,
        reason=job.reason,
    )


def _as_many_as_fit(outcomes: list[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """Those that go with one step, and the rest."""
    size = 0
    for at, outcome in enumerate(outcomes):
        size += len(outcome.body)
        if at and size > _STEP_BYTES:
            return outcomes[:at], outcomes[at:]
    return outcomes, []
