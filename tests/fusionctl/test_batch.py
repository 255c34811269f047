"""`batch` and `batches`, with a real daemon and a model that counts how often it is asked."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.fusionctl.counting_model import CountingModel
from tests.tree import Tree, eventually

SUPERVISION = """
[supervisor]
heartbeat_interval_ms = 100
heartbeat_timeout_ms = 400
shutdown_grace_s = 1
"""


@pytest.fixture
def model(tree: Tree) -> Iterator[CountingModel]:
    with closing(CountingModel()) as model:
        tree.configure(model.configuration + SUPERVISION)
        yield model


def prompts(tree: Tree, count: int, name: str = "prompts.txt") -> list[str]:
    """Writes a file of so many prompts."""
    found = [f"question {number}" for number in range(count)]
    (tree.home / name).write_text("\n".join(found))
    return found


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def answers(text: str) -> list[str]:
    """What was answered, in the order of the results, which must be that of the input."""
    return [row["response"]["body"]["choices"][0]["message"]["content"] for row in rows(text)]


def the_job(tree: Tree) -> dict[str, Any]:
    (job,) = eventually(lambda: tree.json("batches", "list"))
    found: dict[str, Any] = job
    return found


def detail(tree: Tree) -> dict[str, Any]:
    found: dict[str, Any] = tree.json("batches", "show", the_job(tree)["id"])
    return found


# --- in and out ------------------------------------------------------------------------------------------------------


def test_each_line_of_a_file_is_answered_in_order(tree: Tree, model: CountingModel) -> None:
    asked = prompts(tree, 20)
    done = tree.run("batch", "prompts.txt", "-o", "out.jsonl")
    assert (done.returncode, done.stdout) == (0, "")
    text = (tree.home / "out.jsonl").read_text()
    assert answers(text) == [f"You said: {prompt}" for prompt in asked]
    first = rows(text)[0]
    assert (first["custom_id"], first["error"]) == ("line-000001", None)
    assert first["response"]["status_code"] == 200
    assert first["response"]["request_id"].startswith("req-")
    assert first["id"] == f"{the_job(tree)['id']}.1"
    assert not list(tree.home.glob(".out*"))


def test_standard_input_is_a_file_too_and_results_go_to_standard_output(
    tree: Tree, model: CountingModel
) -> None:
    out = tree.ok("batch", "-", input="one\r\n\r\ntwo")
    assert answers(out) == ["You said: one", "You said: two"]
    assert [row["custom_id"] for row in rows(out)] == ["line-000001", "line-000003"]


def test_a_line_for_openais_api_goes_through_with_its_body_untouched(
    tree: Tree, model: CountingModel
) -> None:
    body = '{"messages": [{"role": "user", "content": "hi"}],  "seed": 1.50, "logit_bias": {"5": -1e2}, "model": "gpt"}'
    line = f'{{"custom_id": "mine", "method": "POST", "url": "/v1/chat/completions", "body": {body}}}'
    (row,) = rows(tree.ok("batch", "-", input=line))
    assert row["custom_id"] == "mine"
    assert row["response"]["body"]["choices"][0]["message"]["content"] == "You said: hi"
    for untouched in ('"seed":1.50', '"logit_bias":{"5": -1e2}', '"model":"gpt"'):
        assert untouched in model.bodies[-1]


def test_every_bad_line_is_told_and_nothing_is_sent(tree: Tree, model: CountingModel) -> None:
    lines = [
        '{"prompt": "good"}',
        "no JSON",
        '{"promt": "typo"}',
        '{"prompt": "x", "id": "a"}',
        '{"prompt": "y", "id": "a"}',
    ]
    (tree.home / "bad.jsonl").write_text("\n".join(lines))
    done = tree.run("batch", "bad.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    for number in (2, 3, 5):
        assert f"bad.jsonl, line {number}: " in done.stderr
    assert "nothing has been sent" in done.stderr
    assert tree.processes() == []
    assert not model.asked


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nosuch.txt"], "nosuch.txt"),
        (["."], "no file"),
        (["empty.txt"], "empty"),
        (["typo.jsonl"], "--format text"),
        (["prompts.txt", "-o", "nowhere/out.jsonl"], "no folder"),
        (["prompts.txt", "--concurrency", "0"], "--concurrency"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    tree: Tree, model: CountingModel, args: list[str], words: str
) -> None:
    prompts(tree, 1)
    (tree.home / "empty.txt").write_text("\n\n")
    (tree.home / "typo.jsonl").write_text('{"promt": "x"}\n{"promt": "y"}\n')
    done = tree.run("batch", *args)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert tree.processes() == []


# --- again -----------------------------------------------------------------------------------------------------------


def test_the_same_command_again_asks_nothing_twice(tree: Tree, model: CountingModel) -> None:
    asked = prompts(tree, 10)
    first = tree.ok("batch", "prompts.txt")
    (tree.home / "prompts.txt").rename(tree.home / "renamed.txt")
    assert tree.ok("batch", "renamed.txt") == first
    assert model.asked == dict.fromkeys(asked, 1)
    tree.ok("batch", "renamed.txt", "--restart")
    assert model.asked == dict.fromkeys(asked, 2)
    assert len(tree.json("batches", "list")) == 1


def test_failed_items_have_their_error_and_are_asked_again_on_demand(
    tree: Tree, model: CountingModel
) -> None:
    prompts(tree, 10)
    model.status["question 3"] = 400
    done = tree.run("batch", "prompts.txt")
    assert done.returncode == 3
    assert "--retry-errors" in done.stderr
    row = rows(done.stdout)[3]
    assert row["response"] is None
    assert row["error"]["code"] == "bad_request"
    assert model.asked["question 3"] == 1
    assert tree.run("batch", "prompts.txt").returncode == 3
    model.status.clear()
    again = tree.run("batch", "prompts.txt", "--retry-errors")
    assert again.returncode == 0
    assert len(answers(again.stdout)) == 10
    assert model.asked["question 3"] == 2
    assert max(model.asked.values()) == 2


def test_an_item_that_always_fails_ends_with_its_error_and_the_rest_goes_on(
    tree: Tree, model: CountingModel
) -> None:
    prompts(tree, 30)
    model.status["question 7"] = 500
    done = tree.run("batch", "prompts.txt", "--max-attempts", "2", "--concurrency", "4")
    assert done.returncode == 3
    assert [row["error"]["code"] for row in rows(done.stdout) if row["error"]] == ["provider_down"]
    assert model.asked["question 7"] == 2


def test_items_that_always_fail_end_even_where_no_others_are_left(tree: Tree, model: CountingModel) -> None:
    prompts(tree, 20)
    for number in (5, 6, 7):
        model.status[f"question {number}"] = 500
    done = tree.run("batch", "prompts.txt", "--max-attempts", "2")
    assert done.returncode == 3
    assert [row["custom_id"] for row in rows(done.stdout) if row["error"]] == [
        f"line-00000{n}" for n in (6, 7, 8)
    ]


def test_an_item_that_is_always_put_off_does_not_hold_up_the_rest(tree: Tree, model: CountingModel) -> None:
    prompts(tree, 30)
    model.status["question 7"] = 429
    model.retry_after = "0.02"
    done = tree.run("batch", "prompts.txt", "--concurrency", "2")
    assert done.returncode == 3
    assert [row["error"]["code"] for row in rows(done.stdout) if row["error"]] == ["rate_limited"]


def test_items_too_large_to_go_together_go_one_after_the_other(tree: Tree, model: CountingModel) -> None:
    big = [f"{number} " + "x" * 5_000_000 for number in range(16)]
    (tree.home / "prompts.txt").write_text("\n".join(big))
    tree.ok("batch", "prompts.txt", "-o", "out.jsonl")
    assert len(rows((tree.home / "out.jsonl").read_text())) == 16
    assert (sum(model.asked.values()), the_job(tree)["asked_twice"]) == (16, 0)


def test_another_default_model_is_another_job_too(tree: Tree, model: CountingModel) -> None:
    prompts(tree, 3)
    tree.ok("batch", "prompts.txt")
    tree.configure(model.configuration.replace("test/echo", "test/other") + SUPERVISION)
    tree.ok("reload")
    tree.ok("batch", "prompts.txt")
    assert sum(model.asked.values()) == 6


def test_results_are_not_written_over_the_prompts(tree: Tree, model: CountingModel) -> None:
    asked = prompts(tree, 3)
    done = tree.run("batch", "prompts.txt", "-o", "prompts.txt")
    assert (done.returncode, "prompts itself" in done.stderr) == (2, True)
    assert (tree.home / "prompts.txt").read_text().split("\n") == asked


def test_another_model_is_another_job(tree: Tree, model: CountingModel) -> None:
    prompts(tree, 3)
    tree.ok("batch", "prompts.txt")
    tree.ok("batch", "prompts.txt", "-m", "test/other")
    assert len(tree.json("batches", "list")) == 2


# --- while it runs ---------------------------------------------------------------------------------------------------


def test_a_detached_job_is_listed_watched_and_its_results_fetched(tree: Tree, model: CountingModel) -> None:
    prompts(tree, 8)
    model.close_gate()
    id = tree.ok("batch", "prompts.txt", "--detach").strip()
    assert model.waiting.wait(10)
    job = the_job(tree)
    assert (job["id"], job["state"], job["source"]) == (id, "in_progress", "prompts.txt")
    assert job["request_counts"] == {"total": 8, "completed": 0, "failed": 0}
    watching = [tree.popen("batches", "watch", id[:4]) for _ in range(2)]
    model.gate.set()
    assert [each.communicate(timeout=30)[0] for each in watching] == ["", ""]
    assert [each.returncode for each in watching] == [0, 0]
    assert len(answers(tree.ok("batches", "results", id))) == 8
    found = detail(tree)
    assert (found["state"], found["retries"], found["asked_twice"]) == ("completed", 0, 0)
    assert (found["input_tokens"], found["output_tokens"]) == (56, 40)
    assert found["latency_ms"]["p50"] > 0
    assert tree.ok("batches", "delete", id) == f"deleted: {id}\n"
    assert tree.json("batches", "list") == []


def test_ctrl_c_leaves_the_job_running_and_says_how_to_come_back(tree: Tree, model: CountingModel) -> None:
    prompts(tree, 8)
    model.close_gate()
    batch = tree.popen("batch", "prompts.txt")
    assert model.waiting.wait(10)
    batch.send_signal(signal.SIGINT)
    out, err = batch.communicate(timeout=10)
    id = the_job(tree)["id"]
    assert (batch.returncode, out) == (130, "")
    assert f"fusionctl batches watch {id}" in err
    assert f"fusionctl batches cancel {id}" in err
    model.gate.set()
    eventually(lambda: the_job(tree)["state"] == "completed")


def test_cancelling_takes_back_what_is_in_flight_and_keeps_what_is_done(
    tree: Tree, model: CountingModel
) -> None:
    asked = prompts(tree, 20)
    model.close_gate()
    batch = tree.popen("batch", "prompts.txt", "--concurrency", "4")
    assert model.waiting.wait(10)
    eventually(lambda: tree.actor("llm.0")["in_flight"] == 4)
    assert tree.json("batches", "cancel", the_job(tree)["id"])["state"] == "cancelled"
    _, err = batch.communicate(timeout=10)
    assert batch.returncode == 1
    assert "cancelled" in err
    eventually(lambda: tree.actor("llm.0")["in_flight"] == 0)
    model.gate.set()
    assert len(answers(tree.ok("batch", "prompts.txt"))) == 20
    assert sum(model.asked.values()) <= 24
    assert set(model.asked) == set(asked)


def test_progress_as_json_is_a_line_each_and_results_go_to_the_file(tree: Tree, model: CountingModel) -> None:
    prompts(tree, 5)
    events = rows(tree.ok("batch", "prompts.txt", "--json", "-o", "out.jsonl"))
    assert all(event["total"] == 5 for event in events)
    assert (events[-1]["state"], events[-1]["completed"]) == ("completed", 5)
    assert len(answers((tree.home / "out.jsonl").read_text())) == 5


def test_no_more_are_asked_at_once_than_is_said(tree: Tree, model: CountingModel) -> None:
    prompts(tree, 30)
    model.delay = 0.02
    tree.ok("batch", "prompts.txt", "--concurrency", "3")
    assert model.at_once == 3


def test_two_jobs_share_a_provider_and_neither_starves(tree: Tree, model: CountingModel) -> None:
    prompts(tree, 200, "first.txt")
    (tree.home / "second.txt").write_text("\n".join(f"other {number}" for number in range(20)))
    model.close_gate()
    for name in ("first.txt", "second.txt"):
        tree.ok("batch", name, "--concurrency", "4", "--detach")
    eventually(lambda: tree.actor("llm.0")["in_flight"] == 4)
    model.gate.set()
    eventually(lambda: all(job["state"] == "completed" for job in tree.json("batches", "list")))
    last_of_second = max(at for at, prompt in enumerate(model.order) if prompt.startswith("other"))
    assert last_of_second < 100
    assert model.at_once == 4


# --- a provider that has had enough ----------------------------------------------------------------------------------


def test_a_provider_that_asks_to_slow_down_is_obeyed_and_nothing_fails(
    tree: Tree, model: CountingModel
) -> None:
    prompts(tree, 20)
    model.status[""] = 429
    batch = tree.popen("batch", "prompts.txt", "-o", "out.jsonl")
    eventually(lambda: model.asked)
    eventually(lambda: "slow down" in detail(tree)["reason"])
    model.status.clear()
    batch.communicate(timeout=30)
    assert batch.returncode == 0
    assert detail(tree)["retries"] > 0
    assert len(answers((tree.home / "out.jsonl").read_text())) == 20


def test_a_provider_that_is_down_makes_the_job_wait_with_the_reason(tree: Tree, model: CountingModel) -> None:
    prompts(tree, 20)
    tree.start()
    model.go_away()
    batch = tree.popen("batch", "prompts.txt", "-o", "out.jsonl")
    eventually(lambda: the_job(tree)["state"] == "in_progress")
    eventually(lambda: "cannot be reached" in detail(tree)["reason"])
    model.come_back()
    batch.communicate(timeout=60)
    assert batch.returncode == 0
    assert len(answers((tree.home / "out.jsonl").read_text())) == 20


def test_a_refused_key_ends_the_job_before_it_burns_through_all_items(
    tree: Tree, model: CountingModel
) -> None:
    prompts(tree, 100)
    model.status[""] = 401
    done = tree.run("batch", "prompts.txt", "--concurrency", "2")
    assert done.returncode == 1
    assert "key" in done.stderr
    assert sum(model.asked.values()) <= 6
    model.status.clear()
    assert len(answers(tree.ok("batch", "prompts.txt"))) == 100


def test_no_more_are_asked_in_a_minute_than_is_said(tree: Tree, model: CountingModel) -> None:
    """Two at once, the rest one a second."""
    prompts(tree, 5)
    tree.ok("batch", "prompts.txt", "--rpm", "60")
    assert model.times[-1] - model.times[0] >= 2.5


# --- whatever dies ---------------------------------------------------------------------------------------------------


def kill(tree: Tree, victim: str) -> None:
    """`all`: every process of the daemon."""
    doomed: list[int | None]
    if victim == "all":
        doomed = [each.pid for each in tree.processes() if each.cmdline()[0].startswith("fusiond")]
    else:
        doomed = [tree.supervisor if victim == "supervisor" else tree.actor(victim)["pid"]]
    assert doomed
    for pid in doomed:
        assert pid is not None
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("victim", ["batch", "store", "router", "llm.0", "supervisor", "all"])
def test_a_job_outlives_the_death_of(tree: Tree, model: CountingModel, victim: str) -> None:
    asked = prompts(tree, 40)
    model.close_gate()
    batch = tree.popen("batch", "prompts.txt", "-o", "out.jsonl", "--concurrency", "8")
    assert model.waiting.wait(10)
    eventually(lambda: tree.actor("llm.0")["in_flight"] == 8)
    kill(tree, victim)
    model.gate.set()
    _, err = batch.communicate(timeout=60)
    assert batch.returncode == 0, err
    assert answers((tree.home / "out.jsonl").read_text()) == [f"You said: {prompt}" for prompt in asked]
    assert sum(model.asked.values()) <= 40 + 8
    assert detail(tree)["asked_twice"] >= sum(count > 1 for count in model.asked.values())
    assert detail(tree)["asked_twice"] <= 8


@pytest.mark.parametrize("victim", ["store", "router", "batch", "supervisor", "all"])
def test_handing_over_outlives_the_death_of(tree: Tree, model: CountingModel, victim: str) -> None:
    asked = prompts(tree, 30_000)
    tree.start()
    model.close_gate()
    batch = tree.popen("batch", "prompts.txt", "--detach")
    assert the_job(tree)["request_counts"]["total"] == len(asked)
    kill(tree, victim)
    out, err = batch.communicate(timeout=60)
    assert (batch.returncode, out.strip()) == (0, the_job(tree)["id"]), err
    with closing(sqlite3.connect(tree.home / "state" / "fusion.db")) as db:
        assert db.execute("SELECT count(*), count(DISTINCT custom_id) FROM batch_items").fetchone() == (
            30_000,
            30_000,
        )
    tree.ok("batches", "cancel", out.strip())


@pytest.mark.parametrize("victim", ["store", "router", "batch", "llm.0", "supervisor", "all"])
def test_cancelling_outlives_the_death_of(tree: Tree, model: CountingModel, victim: str) -> None:
    prompts(tree, 20)
    model.close_gate()
    id = tree.ok("batch", "prompts.txt", "--detach", "--concurrency", "4").strip()
    assert model.waiting.wait(10)
    cancelling = tree.popen("batches", "cancel", id)
    kill(tree, victim)
    _, err = cancelling.communicate(timeout=30)
    assert cancelling.returncode == 0, err
    eventually(lambda: the_job(tree)["state"] == "cancelled")
    eventually(lambda: tree.actor("llm.0")["in_flight"] == 0)
    model.gate.set()
    assert len(answers(tree.ok("batch", "prompts.txt"))) == 20


def test_a_job_goes_on_by_itself_after_the_daemon_was_restarted(tree: Tree, model: CountingModel) -> None:
    prompts(tree, 20)
    model.close_gate()
    tree.ok("batch", "prompts.txt", "--detach")
    assert model.waiting.wait(10)
    tree.ok("stop")
    model.gate.set()
    tree.start()
    eventually(lambda: the_job(tree)["state"] == "completed")
    assert the_job(tree)["request_counts"] == {"total": 20, "completed": 20, "failed": 0}


def test_a_job_whose_daemon_died_before_its_last_word_is_completed_by_the_next(
    tree: Tree, model: CountingModel
) -> None:
    prompts(tree, 3)
    tree.ok("batch", "prompts.txt")
    tree.ok("stop")
    with closing(sqlite3.connect(tree.home / "state" / "fusion.db")) as db, db:
        db.execute("UPDATE batches SET state = 'finalizing', ended = NULL")
    tree.start()
    eventually(lambda: the_job(tree)["state"] == "completed")
    assert sum(model.asked.values()) == 3


def test_a_job_waits_for_a_database_that_cannot_be_written(tree: Tree, model: CountingModel) -> None:
    prompts(tree, 12)
    model.close_gate()
    batch = tree.popen("batch", "prompts.txt", "-o", "out.jsonl", "--concurrency", "4")
    assert model.waiting.wait(10)
    with closing(sqlite3.connect(tree.home / "state" / "fusion.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        model.gate.set()
        eventually(lambda: detail(tree)["reason"])
    batch.communicate(timeout=60)
    assert batch.returncode == 0
    assert len(answers((tree.home / "out.jsonl").read_text())) == 12
    assert max(model.asked.values()) == 1


def test_handing_over_can_be_broken_off_and_done_again(tree: Tree, model: CountingModel) -> None:
    asked = prompts(tree, 6000)
    tree.start()
    batch = tree.popen("batch", "prompts.txt", "--detach")
    eventually(lambda: tree.json("batches", "list"))
    batch.kill()
    batch.communicate()
    assert the_job(tree)["state"] in ("validating", "in_progress")
    tree.ok("batch", "prompts.txt", "-o", "out.jsonl")
    assert len(answers((tree.home / "out.jsonl").read_text())) == len(asked)
    assert max(model.asked.values()) == 1


def test_what_is_no_file_is_written_to_and_stays_what_it_is(tree: Tree, model: CountingModel) -> None:
    prompts(tree, 3)
    pipe = tree.home / "pipe"
    os.mkfifo(pipe)
    batch = tree.popen("batch", "prompts.txt", "-o", "pipe")
    assert len(answers(pipe.read_text())) == 3
    assert batch.wait(10) == 0
    assert pipe.is_fifo()
    assert not list(tree.home.glob(".pipe*"))


def test_a_file_is_written_whole_or_not_at_all(tree: Tree, model: CountingModel) -> None:
    prompts(tree, 3)
    out = tree.home / "out.jsonl"
    out.write_text("what was there before")
    model.status[""] = 401
    assert tree.run("batch", "prompts.txt", "-o", "out.jsonl").returncode == 1
    assert Path(out).read_text() == ""
