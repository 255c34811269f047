"""Whatever dies, hangs or is stopped is replaced; seen from outside, with real signals on real processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest

from tests.tree import Tree, eventually
from tests.tree import running as a_daemon

ACTORS = ["router", "store", "llm.0", "agent.0", "forkserver"]
TIMEOUT_MS = 500
CONFIG = f"""
model = "lab/echo"
[providers.lab]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
[supervisor]
heartbeat_interval_ms = 100
heartbeat_timeout_ms = {TIMEOUT_MS}
"""
SLACK_MS = 1500
"""Beyond the timeout, on a busy machine; how fast it is on a quiet one is for the benchmarks to say."""


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    """One daemon for all tests of this file."""
    with a_daemon(CONFIG) as tree:
        yield tree


def replaced(tree: Tree, name: str, old_pid: int) -> dict[str, Any]:
    """The actor's entry once another process has taken the place of `old_pid`."""

    def look() -> dict[str, Any] | None:
        actor = tree.actor(name)
        return actor if actor["state"] == "ready" and actor["pid"] != old_pid and actor["last_exit"] else None

    found = eventually(look)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ACTORS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM], ids=lambda n: n.name)
def test_an_actor_killed_by_hand_is_replaced_and_health_says_by_what(
    tree: Tree, name: str, number: signal.Signals
) -> None:
    before = tree.actor(name)
    os.kill(before["pid"], number)
    after = replaced(tree, name, before["pid"])
    assert (after["last_exit"]["reason"], after["last_exit"]["detail"]) == ("signal", number.name)
    assert after["last_exit"]["recovered_ms"] > 0
    assert after["generation"] > before["generation"]
    assert after["restarts"] == before["restarts"] + 1


@pytest.mark.parametrize("name", ACTORS)
def test_an_actor_that_is_stopped_is_replaced_and_never_continued(tree: Tree, name: str) -> None:
    pid = tree.actor(name)["pid"]
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGSTOP)
    after = replaced(tree, name, pid)
    assert after["last_exit"]["reason"] == "hung"
    assert "stopped by a signal" in after["last_exit"]["detail"]
    assert not process.is_running()


@pytest.mark.parametrize("fault", ["block", "hold-lock"])
@pytest.mark.parametrize("name", ACTORS)
def test_a_hung_actor_is_replaced_in_time_with_its_stacks_in_its_log(
    tree: Tree, name: str, fault: str
) -> None:
    log = tree.home / "state" / "logs" / f"{name}.log"
    before = log.read_text() if log.exists() else ""
    report = tree.json("kill", name, "--fault", fault)
    assert report["noticed_ms"] <= TIMEOUT_MS + SLACK_MS
    assert report["ready_ms"] is not None
    assert tree.actor(name)["last_exit"]["reason"] == "hung"
    written = log.read_text()[len(before) :]
    assert "most recent call first" in written
    assert "in commit" in written


def test_every_actor_is_a_child_of_the_supervisor_and_named_in_ps(tree: Tree) -> None:
    supervisor = psutil.Process(tree.supervisor)
    names = {" ".join(child.cmdline()).strip() for child in supervisor.children()}
    assert {f"fusiond: {name}" for name in ACTORS} <= names
    assert len(supervisor.children(recursive=True)) == len(supervisor.children())


def test_without_a_fork_server_actors_are_started_by_exec(tree: Tree) -> None:
    forkserver, agent = tree.actor("forkserver"), tree.actor("agent.0")
    for pid in [forkserver["pid"], *forkserver["children"], agent["pid"]]:
        os.kill(pid, signal.SIGKILL)
    assert replaced(tree, "agent.0", agent["pid"])["last_exit"]["recovered_ms"] is not None
    assert replaced(tree, "forkserver", forkserver["pid"])


def test_a_spare_child_that_dies_is_replaced(tree: Tree) -> None:
    def killed() -> int:
        """The spare one, unless it has become an actor meanwhile."""
        (blank,) = eventually(lambda: tree.actor("forkserver")["children"])
        with suppress(ProcessLookupError):
            os.kill(blank, signal.SIGKILL)
            return int(blank)
        return 0

    blank = eventually(killed)
    eventually(lambda: tree.actor("forkserver")["children"] not in ([], [blank]))


def test_a_stopped_spare_child_does_not_hold_up_a_replacement(tree: Tree) -> None:
    (blank,) = eventually(lambda: tree.actor("forkserver")["children"])
    os.kill(blank, signal.SIGSTOP)
    report = tree.json("kill", "agent.0")
    assert report["ready_ms"] < 5000
    assert report["new_pid"] != blank


def test_killing_everything_at_once_but_the_supervisor_is_survived(tree: Tree) -> None:
    supervisor = tree.supervisor
    for actor in tree.json("health")["actors"]:
        if actor["pid"]:
            os.kill(actor["pid"], signal.SIGKILL)
    eventually(lambda: tree.json("health")["status"] == "healthy")
    assert tree.supervisor == supervisor


def test_when_the_supervisor_dies_nothing_is_left_within_a_second(tree: Tree) -> None:
    supervisor = tree.supervisor
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    start = time.monotonic()
    eventually(lambda: not tree.processes(), within=5)
    assert time.monotonic() - start < 1.5  # looking takes a moment too
    tree.start()
    assert tree.json("health")["status"] == "healthy"


def test_a_stopped_child_dies_with_the_supervisor_too(tree: Tree) -> None:
    os.kill(tree.actor("store")["pid"], signal.SIGSTOP)
    assert tree.supervisor
    os.kill(tree.supervisor, signal.SIGKILL)
    eventually(lambda: not tree.processes(), within=5)
    tree.start()


def test_a_fork_server_that_was_stopped_while_it_started_dies_with_the_supervisor(tree: Tree) -> None:
    supervisor = tree.supervisor
    assert supervisor is not None
    before = tree.actor("forkserver")["pid"]
    os.kill(before, signal.SIGKILL)

    def successor() -> int | None:
        for child in psutil.Process(supervisor).children():
            with suppress(psutil.Error):  # a blank that has just been retired
                if "fusiond.runtime.forkserver" in " ".join(child.cmdline()):
                    return child.pid
        return None

    os.kill(eventually(successor) or 0, signal.SIGSTOP)
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: not tree.processes(), within=5)
    tree.start()
