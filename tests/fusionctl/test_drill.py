"""`drill`: faults at random, and the judgement of what they cost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from fusionctl.drill_table import table
from fusionctl.drilling import DrillReport, Faults, Spread, plan, spread, strangers
from fusionctl.loads import Echoes, RequestCounts, Turn, judged
from fusiond.protocol.control import ActorHealth, Health, SupervisorHealth
from fusiond.protocol.sessions import StoredMessage
from tests.fusionctl.gated_model import GatedModel
from tests.fusionctl.terminal import ended, terminal
from tests.tree import Tree, eventually

ACTORS = ["forkserver", "router", "store", "llm.0", "agent.0", "batch"]
IMPATIENT = "[supervisor]\nheartbeat_interval_ms = 100\nheartbeat_timeout_ms = 400\n"


# --- the plan -----------------------------------------------------------------------------------------------


def test_the_seed_alone_decides_the_faults() -> None:
    assert plan(7, 30, ACTORS) == plan(7, 30, reversed(ACTORS))
    assert plan(7, 30, ACTORS) != plan(8, 30, ACTORS)
    short = plan(7, 10, ACTORS)
    assert plan(7, 30, ACTORS)[: len(short)] == short


def test_a_plan_reaches_every_actor_with_every_kind_and_lets_a_hung_one_alone() -> None:
    steps = plan(1, 600, ACTORS)
    assert {step.actor for step in steps} == set(ACTORS)
    kinds = Counter(step.kind for step in steps)
    assert set(kinds) == {"KILL", "TERM", "SEGV", "STOP", "block"}
    assert kinds.most_common(1)[0][0] == "KILL"
    for actor in ACTORS:
        own = [step for step in steps if step.actor == actor]
        for step, after in pairwise(own):
            assert after.at - step.at >= (3 if step.kind in ("STOP", "block") else 1)


def test_a_plan_for_a_single_actor_is_made_too() -> None:
    assert {step.actor for step in plan(1, 10, ["store"])} == {"store"}


# --- the judgement ------------------------------------------------------------------------------------------


def said(role: Any, content: str, *, complete: bool = True) -> StoredMessage:
    return StoredMessage(role=role, content=content, time="2026-01-01T00:00:00.000Z", complete=complete)


WHOLE = [said("user", "a"), said("assistant", "A"), said("user", "b"), said("assistant", "B")]


def test_turns_that_are_recorded_as_answered_are_completed() -> None:
    turns = [Turn("a", "A", 1), Turn("b", "B", 2)]
    assert judged(turns, [WHOLE]) == RequestCounts(completed=2, resumed=1)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ([], "nothing is recorded"),
        ([[said("user", "a")]], "the question alone is"),
        ([[said("user", "a"), said("user", "b"), said("assistant", "A")]], "the answer is another's"),
        ([[said("user", "a"), said("assistant", "A!")]], "another answer is"),
        ([[said("user", "a"), said("assistant", "A", complete=False)]], "it is recorded as cut short"),
    ],
)
def test_an_answered_turn_is_lost_where(record: list[list[StoredMessage]], why: str) -> None:
    assert judged([Turn("a", "A", 1)], record).lost == 1, why


def test_a_turn_neither_answered_nor_failed_is_lost_and_one_that_failed_is_not() -> None:
    turns = [Turn("a"), Turn("b", failed=True)]
    assert judged(turns, [[said("user", "a")]]) == RequestCounts(failed=1, lost=1)


def test_a_turn_recorded_twice_is_doubled_in_whichever_session() -> None:
    turns = [Turn("a", "A", 1), Turn("b", "B", 1)]
    assert judged(turns, [[*WHOLE, *WHOLE[:2]]]) == RequestCounts(completed=2, doubled=1)
    assert judged(turns, [WHOLE, WHOLE]) == RequestCounts(completed=2, doubled=2)


class Miscarrying:
    """A client whose second echo is the first one again."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def ping(self, service: str, body: bytes) -> bytes:
        self.bodies.append(body)
        return self.bodies[0]


async def test_an_echo_that_comes_twice_is_doubled_and_the_one_it_replaced_lost() -> None:
    echoes = Echoes(Miscarrying(), ["store", "llm"])  # type: ignore[arg-type]
    await echoes.begin()
    assert await echoes.settle() == RequestCounts(completed=1, lost=1, doubled=1)


def test_times_are_spread_by_nearest_rank() -> None:
    assert spread([None, *map(float, range(1, 101))]) == Spread(50, 99, 100)
    assert spread([3.0]) == Spread(3, 3, 3)
    assert spread([None]) == Spread()


def test_processes_that_belong_to_no_actor_are_counted_with_their_children() -> None:
    script = (
        "import subprocess, sys; subprocess.Popen(['sleep', '60']); print('.', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as stranger:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        try:
            others = strangers(supervised_here(stranger.pid))
            assert strangers(supervised_here()) == others + 2
        finally:
            os.killpg(stranger.pid, signal.SIGKILL)


def supervised_here(*children: int) -> Health:
    """A tree whose supervisor is this process, with one actor whose processes are `children`."""
    actor = ActorHealth(
        name="forkserver",
        kind="forkserver",
        pid=None,
        state="ready",
        generation=1,
        last_seen_ms=None,
        restarts=0,
        uptime_s=None,
        in_flight=0,
        loop_lag_ms=None,
        rss_bytes=None,
        cpu_percent=None,
        children=list(children),
    )
    supervisor = SupervisorHealth(os.getpid(), 1.0)
    return Health(status="healthy", version="1", supervisor=supervisor, actors=[actor])


def test_the_table_says_what_was_lost_and_how_to_see_it_again() -> None:
    times = Spread(1.0, 2.0, 3.0)
    faults = Faults(
        actor="store", kind="KILL", count=2, noticed_ms=times, respawned_ms=Spread(), ready_ms=times
    )
    report = DrillReport(
        seed=7,
        seconds=5,
        faults=[faults],
        recovery_ms=times,
        requests=RequestCounts(completed=1000, lost=1),
        processes_left=0,
    )
    assert not report.passed
    shown = table(report)
    assert " ".join(shown[2].split()) == "store KILL 2 1.0 2.0 3.0 – – – 1.0 2.0 3.0"
    assert len({len(line) for line in shown[:3]}) == 1
    assert "requests: 1,000 completed, 0 of them resumed; 0 failed, 1 lost, 0 doubled" in shown
    assert shown[-1].endswith("--seed 7 --seconds 5")


# --- drills on a tree ---------------------------------------------------------------------------------------


def test_a_drill_on_echoes_loses_nothing(tree: Tree, model: GatedModel) -> None:
    tree.configure(model.configuration + IMPATIENT)
    done = tree.run("drill", "--echo", "--seconds", "5", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"seed {report['seed']}" in done.stderr
    assert len({faults["actor"] for faults in report["faults"]}) >= 2
    assert report["recovery_ms"]["max"] >= report["recovery_ms"]["p50"] > 0
    assert report["requests"].pop("completed") > 100
    assert report["requests"] == {"resumed": 0, "failed": 0, "lost": 0, "doubled": 0}
    assert report["processes_left"] == 0
    assert not model.asked


def test_a_drill_on_conversations_loses_nothing_and_leaves_no_session(tree: Tree, model: GatedModel) -> None:
    tree.configure(model.configuration + IMPATIENT)
    model.pace = 0.01
    tree.ok("chat", "of somebody else")
    done = tree.run("drill", "--seconds", "5", "--seed", "1", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [actor["name"] for actor in tree.json("health")["actors"]]
    committed = {(faults["actor"], faults["kind"]): faults["count"] for faults in report["faults"]}
    assert committed == Counter((step.actor, step.kind) for step in plan(1, 5, names))
    assert report["requests"]["completed"] > 5
    assert [session["title"] for session in tree.json("sessions", "list")] == ["of somebody else"]


def test_what_is_lost_is_counted_and_the_drill_fails(tree: Tree, model: GatedModel) -> None:
    tree.start()
    drilling = tree.popen("drill", "--seconds", "3", "--json")
    eventually(lambda: len(tree.json("sessions", "list")) > 1)
    first = tree.json("sessions", "list")[-1]  # its only turn has been answered
    tree.ok("sessions", "delete", first["id"])
    out, err = drilling.communicate(timeout=60)
    assert drilling.returncode == 1, err
    assert json.loads(out)["requests"]["lost"] == 1


def test_a_model_that_does_not_answer_is_told_before_anything_is_killed(
    tree: Tree, model: GatedModel
) -> None:
    tree.configure('model = "nowhere/echo"\n[providers.nowhere]\nbase_url = "http://127.0.0.1:9/v1"\n')
    done = tree.run("drill", "--seconds", "5")
    assert done.returncode == 75
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert not any(actor["restarts"] for actor in tree.json("health")["actors"])
    assert tree.json("sessions", "list") == []


def test_a_drill_waits_for_others_work_unless_it_is_forced(tree: Tree, model: GatedModel) -> None:
    tree.configure(model.configuration + IMPATIENT)
    model.close_gate(after=2)
    tree.start()
    chat = tree.popen("chat", "a question that takes its time")
    assert model.waiting.wait(10)
    eventually(lambda: tree.actor("llm.0")["in_flight"])
    refused = tree.run("drill", "--echo")
    assert refused.returncode == 75
    assert refused.stderr.startswith("error: work is in flight: ")
    assert "llm.0 (1)" in refused.stderr
    assert "--force" in refused.stderr
    forced = tree.run("drill", "--echo", "--seconds", "3", "--force")
    assert forced.returncode == 0, forced.stderr
    model.gate.set()
    out, err = chat.communicate(timeout=20)
    assert (out, chat.returncode) == ("You said: a question that takes its time\n", 0), err


def test_an_interrupted_drill_shows_its_table_so_far(tree: Tree, model: GatedModel) -> None:
    tree.configure(model.configuration + IMPATIENT)
    model.pace = 0.1  # there is always an answer under way
    tree.start()
    with terminal(tree, "drill", "--seconds", "60") as child:
        child.expect("faults [1-9]")
        child.sendintr()
        child.expect("recovery of all, ms: p50 [0-9]")
        child.expect("0 failed, 0 lost, 0 doubled")
        assert ended(child) == 130
    assert tree.json("sessions", "list") == []


def test_a_drill_ends_with_the_daemon(tree: Tree, model: GatedModel) -> None:
    tree.start()
    drilling = tree.popen("drill", "--echo", "--seconds", "60")
    eventually(lambda: any(actor["restarts"] for actor in tree.json("health")["actors"]))
    tree.ok("stop")
    _, err = drilling.communicate(timeout=20)
    assert drilling.returncode == 4
    assert err.splitlines()[-1].startswith("error: ")
