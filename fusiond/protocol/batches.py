"""Batch jobs: the bodies of the verbs of the services "store" and "batch".

| verb | body | reply | public |
|---|---|---|---|
| batch `begin` | BeginJob | Job | yes |
| store `batches.begin` | BeginJob | Job | no |
| store `batches.add` | AddItems | Job | yes |
| store `batches.list` | ListJobs | list[Job] | yes |
| store `batches.results` | ReadResults | list[Result] | yes |
| store `batches.delete` | JobId | Job | yes |
| batch `submit` | JobId | Job | yes |
| batch `cancel` | JobId | Job | yes |
| batch `show` | JobId | JobDetail | yes |
| batch `watch` | JobId | a stream of Progress, one a chunk, then Job | yes |
| store `batches.show` | JobId | JobDetail | no |
| store `batches.step` | Step | Stepped | no |
| store `batches.move` | Move | Job | no |
| store `batches.unfinished` | – | list[Job] | no |

A job is named by its id, or by a beginning of it that fits only one. Every verb is idempotent: sent again, it changes
nothing more. Times are ISO 8601 in UTC with milliseconds. Items are counted from 0.
"""

from __future__ import annotations

from typing import Literal

import msgspec

JobState = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
"""`validating`: its items are still being handed over. `failed`: it stopped for a reason that concerns all items, and
goes on when it is submitted again. Items that failed are another matter: their job is `completed`."""

ENDED: tuple[JobState, ...] = ("failed", "completed", "expired", "cancelled")


class JobSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a job is to be run. `rpm`, `tpm`: requests and tokens a minute, 0 for no limit.

    `model`: for items that name none, "" for the configured default. `concurrency`: 0 leaves it to the daemon.
    """

    model: str = ""
    concurrency: int = 0
    rpm: int = 0
    tpm: int = 0
    max_attempts: int = 3


class BeginJob(msgspec.Struct, frozen=True, kw_only=True):
    """Makes a job, or finds it: the same `key` of the same person is the same job.

    `source`: the file's name, for people to read. `total`: how many items it will have. `restart`: what there is of it
    is thrown away. `retry_errors`: its failed items are asked again once it is submitted.
    """

    key: str
    source: str
    total: int
    settings: JobSettings
    restart: bool = False
    retry_errors: bool = False
    uid: int = -1


class NewItem(msgspec.Struct, frozen=True, array_like=True):
    """An item as it is handed over. `body`: JSON."""

    custom_id: str
    url: str
    body: bytes


class AddItems(msgspec.Struct, frozen=True, kw_only=True):
    """Hands over items from number `first` on. What is there already is left as it is."""

    job: str
    first: int
    items: list[NewItem]
    uid: int = -1


class RequestCounts(msgspec.Struct, frozen=True):
    total: int
    completed: int
    failed: int


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job in a list.

    `asked_twice`: items that a model may have been asked for more than once, because a process died in between.
    `reason`: why it does not go on, "" if it does; `code`: that of the error, if it is one. `received`: items handed
    over.
    """

    id: str
    state: JobState
    created: str
    source: str
    request_counts: RequestCounts
    asked_twice: int
    reason: str
    received: int
    settings: JobSettings
    code: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    uid: int = -1


class Latency(msgspec.Struct, frozen=True):
    """In ms, over the items that were answered; None where there are none."""

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None


class JobDetail(Job, frozen=True, kw_only=True):
    """A job with its figures. `retries`: questions asked again after an error. `ended`: None while it runs."""

    updated: str
    began: str | None
    ended: str | None
    retries: int
    latency_ms: Latency


class JobId(msgspec.Struct, frozen=True):
    id: str
    uid: int = -1


class ListJobs(msgspec.Struct, frozen=True):
    """The newest `limit` jobs."""

    limit: int = 100
    uid: int = -1


class ReadResults(msgspec.Struct, frozen=True):
    """The results of the items from number `first` on, in order, as many as fit into a message, at most `limit`."""

    job: str
    first: int = 0
    limit: int = 1000
    uid: int = -1


class Result(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What became of item `n`: `body`, the provider's JSON, or `code` and `message` of its error."""

    n: int
    custom_id: str
    status: int = 0
    request: str = ""
    body: bytes = b""
    code: str = ""
    message: str = ""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job has come. `rate`: items a second of late, None before there are any. `left_s`: seconds to go."""

    job: str
    state: JobState
    total: int
    completed: int
    failed: int
    in_flight: int
    asked_twice: int
    input_tokens: int
    output_tokens: int
    rate: float | None = None
    left_s: float | None = None
    reason: str = ""


# --- between the batch actor and the store ---------------------------------------------------------------------------


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """The result of item `n`, to be recorded. `asks`: how often it was given to a process that died with it, and once.

    `ms`: from the asking to the answer.
    """

    n: int
    asks: int
    ms: float
    status: int = 0
    request: str = ""
    body: bytes = b""
    code: str = ""
    message: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Records `outcomes`, notes that `retried` were asked again, and asks for `want` more items. `put_off`: how many
    questions were asked again that the provider had no time for: no fault of theirs.

    `back`: items that the batch actor held and gives back without having asked.
    `have`: the numbers of the items that the batch actor holds without a result. Any other item that was once given out
    and has no result is given out anew before fresh ones: its holder died, or never learned of it.
    """

    job: str
    have: list[int]
    outcomes: list[Outcome] = []
    retried: list[int] = []
    put_off: int = 0
    back: list[int] = []
    want: int = 0


class Claimed(msgspec.Struct, frozen=True, array_like=True):
    """An item to be asked. `tries`: how often it was asked again after an error."""

    n: int
    url: str
    body: bytes
    tries: int


class Stepped(msgspec.Struct, frozen=True, kw_only=True):
    items: list[Claimed]
    job: Job


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Brings a job into `state`, unless it has ended or its way does not lead there; notes the reason and its code."""

    job: str
    state: JobState
    reason: str = ""
    code: str = ""
