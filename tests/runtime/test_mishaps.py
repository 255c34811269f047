"""What can go wrong in the supervisor itself: no start is left without an answer, no reload leaves anybody behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.runtime.test_recovery import CONFIG
from tests.tree import Tree, eventually


def test_a_log_that_cannot_be_opened_fails_the_start_and_the_next_try_succeeds(
    tree: Tree, home: Path
) -> None:
    tree.configure(CONFIG)
    tree.start()
    logs = home / "state" / "logs"
    logs.rename(home / "aside")
    os.kill(tree.actor("agent.0")["pid"], signal.SIGKILL)
    eventually(lambda: tree.actor("agent.0")["state"] in ("backoff", "failed"))
    (home / "aside").rename(logs)
    tree.ok("restart", "agent.0")
    assert tree.actor("agent.0")["state"] == "ready"


def test_replicas_that_go_while_they_are_being_started_leave_nobody_behind(tree: Tree) -> None:
    tree.configure(CONFIG + "[actors.llm]\nreplicas = 4\n")
    tree.start()
    os.kill(tree.actor("forkserver")["pid"], signal.SIGSTOP)
    for number in (1, 2, 3):
        os.kill(tree.actor(f"llm.{number}")["pid"], signal.SIGKILL)
    tree.configure(CONFIG)
    tree.ok("reload")
    names = {actor["name"] for actor in tree.json("health")["actors"]}
    assert not names & {"llm.1", "llm.2", "llm.3"}


def test_a_model_that_cannot_be_loaded_is_a_failed_start_not_a_crash_loop(tree: Tree, home: Path) -> None:
    model = home / "junk.gguf"
    model.write_bytes(b"GGUF" + bytes(1000))
    tree.ok("models", "add", "junk", str(model))
    tree.configure('model = "local/junk"\n')
    assert tree.run("start").returncode == 1
    assert tree.actor("llm.0")["state"] == "failed"
    assert tree.actor("llm.0")["restarts"] < 10


def test_two_kills_of_one_actor_at_once_are_both_answered(tree: Tree) -> None:
    tree.configure(CONFIG)
    tree.start()
    kills = [tree.popen("kill", "store", "--json") for _ in range(2)]
    for kill in kills:
        out, err = kill.communicate(timeout=20)
        assert kill.returncode in (0, 1), err
        assert out or "no process" in err


def test_a_signal_that_ends_nothing_is_reported_soon(tree: Tree) -> None:
    tree.configure(CONFIG)
    tree.start()
    report = tree.json("kill", "store", "--signal", "CONT")
    assert report["noticed_ms"] is None
    assert report["new_pid"] is None
