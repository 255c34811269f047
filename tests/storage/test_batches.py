"""The journal of batch jobs: items given out, results recorded, whatever is said twice or out of order."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fusiond.errors import NotFound, UsageError
from fusiond.protocol.batches import (
    AddItems,
    BeginJob,
    Job,
    JobId,
    JobSettings,
    JobState,
    ListJobs,
    Move,
    NewItem,
    Outcome,
    ReadResults,
    Step,
)
from fusiond.storage import batches, schema

NOW = "2026-01-01T00:00:00.000Z"


def database() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(db, "the test's database")
    return db


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    db = database()
    yield db
    db.close()


def begin(db: sqlite3.Connection, total: int = 5, *, key: str = "k", uid: int = 7, **how: bool) -> Job:
    ask = BeginJob(key=key, source="f", total=total, settings=JobSettings(), uid=uid, **how)
    return batches.begin(db, ask, NOW)


def add(db: sqlite3.Connection, job: Job, first: int, count: int) -> Job:
    items = [NewItem(f"id-{n}", "/v1/chat/completions", b"{}") for n in range(first, first + count)]
    return batches.add(db, AddItems(job=job.id, first=first, items=items), NOW)


def running(db: sqlite3.Connection, total: int = 5) -> Job:
    job = add(db, begin(db, total), 0, total)
    return batches.move(db, Move(job=job.id, state="in_progress"), NOW)


def step(
    db: sqlite3.Connection, job: Job, have: list[int] | None = None, **what: object
) -> tuple[list[int], Job]:
    done = batches.step(db, Step(job=job.id, have=have or [], **what), NOW)  # type: ignore[arg-type]
    return [item.n for item in done.items], done.job


def good(n: int, asks: int = 1) -> Outcome:
    return Outcome(n, asks, 20.0, 200, "", b'{"n":%d}' % n, input_tokens=2, output_tokens=3)


def bad(n: int) -> Outcome:
    return Outcome(n, 1, 20.0, code="bad_request", message="no")


def counts(job: Job) -> tuple[int, int]:
    return job.request_counts.completed, job.request_counts.failed


def test_the_same_key_of_the_same_person_is_the_same_job(db: sqlite3.Connection) -> None:
    assert begin(db).id == begin(db).id
    assert begin(db, uid=8).id != begin(db).id
    assert begin(db, key="other").id != begin(db).id


def test_items_may_be_handed_over_twice_but_not_with_a_gap(db: sqlite3.Connection) -> None:
    job = begin(db, 5)
    assert add(db, job, 0, 3).received == 3
    assert add(db, job, 0, 3).received == 3
    assert add(db, job, 1, 4).received == 5
    with pytest.raises(UsageError, match="not more"):
        add(db, job, 5, 1)
    with pytest.raises(UsageError, match="before item"):
        add(db, begin(db, 5, key="gap"), 1, 1)


def test_nothing_is_given_out_before_all_is_there(db: sqlite3.Connection) -> None:
    job = add(db, begin(db, 5), 0, 3)
    assert batches.move(db, Move(job=job.id, state="in_progress"), NOW).state == "validating"
    assert step(db, job, want=5)[0] == []


def test_items_are_given_out_once_in_order(db: sqlite3.Connection) -> None:
    job = running(db)
    assert step(db, job, want=2)[0] == [0, 1]
    assert step(db, job, have=[0, 1], want=9)[0] == [2, 3, 4]
    assert step(db, job, have=[0, 1, 2, 3, 4], want=9)[0] == []


def test_what_a_dead_holder_held_is_given_out_again_first_and_counted(db: sqlite3.Connection) -> None:
    job = running(db)
    step(db, job, want=3)
    items, after = step(db, job, have=[], want=4)
    assert items == [0, 1, 2, 3]
    assert after.asked_twice == 3


def test_what_was_given_back_unasked_does_not_count(db: sqlite3.Connection) -> None:
    job = running(db)
    step(db, job, want=3)
    step(db, job, back=[1, 2])
    items, after = step(db, job, have=[], want=3)
    assert items == [0, 1, 2]
    assert after.asked_twice == 1


def test_a_result_is_recorded_once_and_the_first_one_holds(db: sqlite3.Connection) -> None:
    job = running(db)
    step(db, job, want=2)
    _, after = step(db, job, have=[0, 1], outcomes=[good(0), bad(1)])
    assert counts(after) == (1, 1)
    _, after = step(db, job, outcomes=[bad(0), good(1)])
    assert counts(after) == (1, 1)
    found = batches.results(db, ReadResults(job.id))
    assert [(each.n, each.code) for each in found] == [(0, ""), (1, "bad_request")]


def test_an_answer_given_by_a_second_process_counts_as_asked_twice(db: sqlite3.Connection) -> None:
    job = running(db)
    step(db, job, want=1)
    assert step(db, job, outcomes=[good(0, asks=2)])[1].asked_twice == 1


def test_the_last_result_finishes_the_job(db: sqlite3.Connection) -> None:
    job = running(db, 2)
    step(db, job, want=2)
    _, after = step(db, job, outcomes=[good(0), good(1)])
    assert after.state == "finalizing"
    assert batches.move(db, Move(job=job.id, state="completed"), NOW).state == "completed"
    detail = batches.show(db, JobId(job.id))
    assert (detail.input_tokens, detail.output_tokens, detail.ended) == (4, 6, NOW)
    assert detail.latency_ms.p50 == pytest.approx(20, rel=0.06)


def test_errors_are_asked_again_on_demand_only(db: sqlite3.Connection) -> None:
    job = running(db, 2)
    step(db, job, want=2)
    step(db, job, outcomes=[good(0), bad(1)])
    batches.move(db, Move(job=job.id, state="completed"), NOW)
    assert batches.move(db, Move(job=job.id, state="in_progress"), NOW).state == "completed"
    assert counts(begin(db, 2, retry_errors=True)) == (1, 0)
    assert batches.move(db, Move(job=job.id, state="in_progress"), NOW).state == "in_progress"
    items, after = step(db, job, want=5)
    assert (items, after.asked_twice) == ([1], 0)


def test_a_job_that_is_begun_anew_has_nothing_of_the_old_one(db: sqlite3.Connection) -> None:
    job = running(db)
    step(db, job, want=1)
    step(db, job, outcomes=[good(0)])
    again = begin(db, restart=True)
    assert (again.received, counts(again)) == (0, (0, 0))
    with pytest.raises(NotFound):
        step(db, job)
    while batches.purge(db):
        pass
    for table in ("batch_items", "batch_held", "batch_results"):
        assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    assert [found.id for found in batches.newest(db, ListJobs())] == [again.id]


def test_a_job_is_nobody_elses(db: sqlite3.Connection) -> None:
    job = begin(db)
    with pytest.raises(NotFound):
        batches.show(db, JobId(job.id, uid=8))
    assert batches.newest(db, ListJobs(uid=8)) == []


def test_a_running_job_is_not_deleted(db: sqlite3.Connection) -> None:
    with pytest.raises(UsageError, match="cancel it first"):
        batches.delete(db, JobId(running(db).id), NOW)


def test_results_come_in_pages_in_order(db: sqlite3.Connection) -> None:
    job = running(db, 10)
    step(db, job, want=10)
    step(db, job, outcomes=[good(n) for n in reversed(range(10))])
    assert [each.n for each in batches.results(db, ReadResults(job.id, limit=4))] == [0, 1, 2, 3]
    assert [each.n for each in batches.results(db, ReadResults(job.id, first=8))] == [8, 9]


class Journal(RuleBasedStateMachine):
    """One job and a batch actor that dies, hears nothing, says things twice, and is told to stop and go on."""

    TOTAL = 6

    def __init__(self) -> None:
        super().__init__()
        self.db = database()
        self.job = running(self.db, self.TOTAL)
        self.held: set[int] = set()
        self.recorded: dict[int, str] = {}
        self.asked = [0] * self.TOTAL
        self.last: Step | None = None

    def _step(self, ask: Step, *, heard: bool = True) -> None:
        self.last = ask
        done = batches.step(self.db, ask, NOW)
        for outcome in ask.outcomes:
            self.recorded.setdefault(outcome.n, outcome.code)
            self.held.discard(outcome.n)
        if heard:
            for item in done.items:
                assert item.n not in self.held, "given out to one who has it"
                assert item.n not in self.recorded, "given out although it has a result"
                self.held.add(item.n)
                self.asked[item.n] += 1

    @rule(want=st.integers(0, 4), heard=st.booleans(), failing=st.booleans(), count=st.integers(0, 3))
    def steps(self, want: int, heard: bool, failing: bool, count: int) -> None:
        done = sorted(self.held)[:count]
        outcomes = [bad(n) if failing else good(n) for n in done]
        self._step(Step(job=self.job.id, have=sorted(self.held), outcomes=outcomes, want=want), heard=heard)

    @precondition(lambda self: self.last is not None)
    @rule()
    def says_the_same_again(self) -> None:
        """Its answer is lost: the actor asks anew for what it does not know to have."""
        assert self.last is not None
        self._step(self.last, heard=False)

    @rule()
    def dies(self) -> None:
        self.held.clear()

    @rule(
        state=st.sampled_from(["in_progress", "cancelling", "cancelled", "failed", "completed", "finalizing"])
    )
    def is_moved(self, state: JobState) -> None:
        batches.move(self.db, Move(job=self.job.id, state=state), NOW)

    @invariant()
    def every_item_has_one_result_and_the_first_one(self) -> None:
        found = batches.results(self.db, ReadResults(self.job.id))
        assert {each.n: each.code for each in found} == self.recorded
        shown = batches.show(self.db, JobId(self.job.id))
        good_ones = sum(not code for code in self.recorded.values())
        assert counts(shown) == (good_ones, len(self.recorded) - good_ones)

    @invariant()
    def what_was_asked_twice_is_counted(self) -> None:
        assert batches.show(self.db, JobId(self.job.id)).asked_twice >= sum(
            n - 1 for n in self.asked if n > 1
        )

    def teardown(self) -> None:
        """Left alone, it comes to its end with a result for every item."""
        batches.move(self.db, Move(job=self.job.id, state="cancelled"), NOW)
        batches.move(self.db, Move(job=self.job.id, state="in_progress"), NOW)
        for _ in range(self.TOTAL + 2):
            self._step(Step(job=self.job.id, have=[], outcomes=[good(n) for n in sorted(self.held)], want=9))
        assert set(self.recorded) == set(range(self.TOTAL))
        batches.move(self.db, Move(job=self.job.id, state="completed"), NOW)
        assert batches.show(self.db, JobId(self.job.id)).state == "completed"
        assert self.db.execute("SELECT count(*) FROM batch_held").fetchone() == (0,)
        self.db.close()


TestJournal = Journal.TestCase
TestJournal.settings = settings(max_examples=200, stateful_step_count=25, deadline=None)
