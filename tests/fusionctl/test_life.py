"""Starting, stopping and looking after a daemon, through the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.tree import Tree, eventually


@pytest.mark.parametrize("command", ["health", "kill store"])
def test_what_never_starts_a_daemon_exits_4_without_one(tree: Tree, command: str) -> None:
    done = tree.run(*command.split())
    assert done.returncode == 4
    assert done.stdout == ""
    assert "no daemon is running" in done.stderr
    assert done.stderr.count("\n") == 1
    assert tree.processes() == []


def test_health_as_json_says_down(tree: Tree) -> None:
    done = tree.run("health", "--json")
    assert (json.loads(done.stdout), done.returncode) == ({"status": "down"}, 4)


def test_stop_without_a_daemon_is_fine(tree: Tree) -> None:
    assert tree.ok("stop") == "not running\n"


@pytest.mark.parametrize("how", ["option", "variable"])
def test_nothing_is_started_where_that_is_not_wanted(tree: Tree, how: str) -> None:
    option = how == "option"
    done = tree.run(
        *(["--no-autostart"] if option else []), "restart", **({} if option else {"FUSION_NO_AUTOSTART": "1"})
    )
    assert done.returncode == 4
    assert tree.processes() == []


def test_start_returns_when_the_tree_is_ready_and_stop_leaves_nothing(tree: Tree) -> None:
    started = tree.run("start")
    assert "starting the daemon (pid " in started.stderr
    states = {actor["state"] for actor in tree.json("health")["actors"]}
    assert states <= {"ready", "standby"}
    supervisor = tree.supervisor
    assert tree.ok("stop") == f"stopped: pid {supervisor}\n"
    assert tree.processes() == []
    assert list((tree.home / "run").iterdir()) == []
    assert tree.ok("stop") == "not running\n"


def test_a_second_start_says_that_it_runs_already(tree: Tree) -> None:
    tree.start()
    before = tree.supervisor
    assert tree.run("start").stdout.startswith(f"already running: pid {before}, up ")
    assert tree.supervisor == before


def test_two_clients_that_start_at_once_get_one_daemon(tree: Tree) -> None:
    clients = [tree.popen("start") for _ in range(4)]
    outputs = [client.communicate(timeout=60) for client in clients]
    assert [client.returncode for client in clients] == [0] * 4, outputs
    supervisors = [process for process in tree.processes() if "supervisor" in " ".join(process.cmdline())]
    assert [process.pid for process in supervisors] == [tree.supervisor]


def test_start_in_the_foreground_is_the_daemon_itself(tree: Tree) -> None:
    daemon = tree.popen("start", "--foreground")
    eventually(lambda: tree.run("health").returncode != 4)
    assert tree.supervisor == daemon.pid
    daemon.send_signal(signal.SIGTERM)
    daemon.communicate(timeout=20)
    assert daemon.returncode == 0


def test_a_daemon_that_cannot_start_says_why(tree: Tree) -> None:
    tree.configure('modle = "test/echo"\n')
    done = tree.run("start")
    assert done.returncode == 78
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: ")
    assert "modle" in error
    assert "model" in error


def test_a_home_that_cannot_be_made_is_one_line(tree: Tree) -> None:
    (tree.home / "file").write_text("")
    done = tree.run("--home", str(tree.home / "file" / "x"), "start")
    assert done.returncode == 78
    assert done.stderr.count("\n") == 1


def test_killing_an_actor_shows_its_recovery(tree: Tree) -> None:
    tree.start()
    before = tree.actor("store")["pid"]
    report = tree.json("kill", "store")
    assert (report["actor"], report["signal"], report["old_pid"]) == ("store", "SIGKILL", before)
    assert 0 < report["noticed_ms"] <= report["respawned_ms"] <= report["ready_ms"]
    assert set(report["requests"]) == {"redispatched", "resumed", "failed"}
    after = tree.actor("store")
    assert after["pid"] == report["new_pid"]
    assert after["last_exit"]["detail"] == "SIGKILL"
    shown = tree.run("health").stdout
    assert "killed by SIGKILL, ready again in" in shown


@pytest.mark.parametrize("command", ["kill stoer", "restart stoer"])
def test_an_unknown_actor_names_the_nearest(tree: Tree, command: str) -> None:
    tree.start()
    done = tree.run(*command.split())
    assert done.returncode == 2
    assert "did you mean store?" in done.stderr


def test_restart_replaces_one_actor(tree: Tree) -> None:
    tree.start()
    before = tree.actor("store")["pid"], tree.actor("router")["pid"]
    assert tree.ok("restart", "store") == "restarted: store\n"
    after = tree.actor("store")["pid"], tree.actor("router")["pid"]
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_restart_of_all_replaces_all_but_the_supervisor(tree: Tree) -> None:
    tree.start()
    before = {actor["name"]: actor["pid"] for actor in tree.json("health")["actors"]}
    supervisor = tree.supervisor
    assert tree.ok("restart").startswith("restarted: ")
    after = {actor["name"]: actor["pid"] for actor in tree.json("health")["actors"]}
    assert before.keys() == after.keys()
    assert not before.items() & after.items()
    assert tree.supervisor == supervisor


def test_reload_with_a_bad_file_changes_nothing_and_says_so(tree: Tree) -> None:
    tree.start()
    tree.configure("[actors.store]\nreplicas = 2\n")
    done = tree.run("reload")
    assert done.returncode == 78
    assert "replicas" in done.stderr
    assert tree.actor("store")["restarts"] == 0


def test_reload_with_the_same_file_replaces_nobody(tree: Tree) -> None:
    tree.start()
    assert tree.ok("reload") == "reloaded, nothing changed\n"


# --- a supervisor that does not answer ---------------------------------------------------------------------------


def stopped_supervisor(tree: Tree) -> int:
    tree.start()
    pid = tree.supervisor
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    return pid


def test_a_stopped_supervisor_is_replaced_by_the_next_command_that_needs_one(tree: Tree) -> None:
    before = stopped_supervisor(tree)
    done = tree.run("start")
    assert f"the supervisor (pid {before}) is stopped by a signal: killing it" in done.stderr
    assert "starting the daemon" in done.stderr
    assert tree.supervisor not in (None, before)
    assert before not in [process.pid for process in tree.processes()]


def test_a_stopped_supervisor_is_left_alone_by_health_and_without_autostart(tree: Tree) -> None:
    before = stopped_supervisor(tree)
    for args in (["health"], ["kill", "store"], ["--no-autostart", "restart"]):
        done = tree.run(*args)
        assert done.returncode == 4
        assert f"the supervisor (pid {before}) is stopped by a signal" in done.stderr
    assert psutil.Process(before).status() == psutil.STATUS_STOPPED


def test_a_stopped_supervisor_is_ended_by_stop_with_all_that_is_its(tree: Tree) -> None:
    before = stopped_supervisor(tree)
    done = tree.run("stop")
    assert done.returncode == 0
    assert f"the supervisor (pid {before}) is stopped by a signal: killing it" in done.stderr
    assert tree.processes() == []


def test_a_supervisor_that_was_killed_leaves_nobody_and_the_next_command_starts_again(tree: Tree) -> None:
    tree.start()
    supervisor = tree.supervisor
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: tree.processes() == [])
    assert tree.run("health").returncode == 4
    assert tree.run("start").stderr.startswith("starting the daemon")


def test_the_pid_of_another_process_in_a_lock_that_nobody_holds_is_not_taken_for_a_daemon(tree: Tree) -> None:
    bystander = subprocess.Popen(["sleep", "60"], env=tree.environment)
    try:
        (tree.home / "run").mkdir(mode=0o700)
        (tree.home / "run" / "fusiond.lock").write_text(f"{bystander.pid}\n")
        assert tree.ok("stop") == "not running\n"
        assert tree.run("health").returncode == 4
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


# --- what is recorded --------------------------------------------------------------------------------------------


def test_events_tell_what_happened_even_when_nothing_runs(tree: Tree) -> None:
    tree.start()
    tree.ok("kill", "store")
    tree.ok("stop")
    documents = [json.loads(line) for line in tree.ok("events", "--json").splitlines()]
    assert all({"time", "kind", "actor", "pid", "detail"} <= set(document) for document in documents)
    assert "replaced" in {document["kind"] for document in documents if document["actor"] == "store"}
    assert "SIGKILL" in tree.ok("events")
    audit = [json.loads(line) for line in tree.ok("events", "--audit", "--json").splitlines()]
    assert [document["actor"] for document in audit if document["kind"] == "killed"] == ["store"]
    assert "ready" not in {document["kind"] for document in audit}


def test_events_are_followed_as_they_happen(tree: Tree) -> None:
    tree.start()
    following = tree.popen("events", "-f", "--json")
    assert following.stdout is not None
    tree.ok("kill", "store")
    kinds = set()
    while "replaced" not in kinds:
        kinds.add(json.loads(following.stdout.readline())["kind"])
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=10)
    assert following.returncode == 130


def write_log(home: Path, actor: str, *lines: str) -> None:
    folder = home / "state" / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{actor}.log").write_text("".join(f"{line}\n" for line in lines))


def test_logs_of_all_actors_are_merged_by_time(tree: Tree) -> None:
    write_log(
        tree.home, "a", "2026-01-01T00:00:00.000Z INFO    one", "2026-01-01T00:00:02.000Z INFO    three"
    )
    write_log(tree.home, "bb", "2026-01-01T00:00:01.000Z ERROR   two", "a trace")
    shown = [" ".join(line.split()) for line in tree.ok("logs").splitlines()]
    assert shown == [
        "2026-01-01T00:00:00.000Z a INFO one",
        "2026-01-01T00:00:01.000Z bb ERROR two",
        "bb a trace",
        "2026-01-01T00:00:02.000Z a INFO three",
    ]
    assert tree.ok("logs", "bb") == "2026-01-01T00:00:01.000Z ERROR   two\na trace\n"
    assert tree.ok("logs", "--level", "warning").count("\n") == 2


def test_logs_of_an_unknown_actor_name_the_nearest(tree: Tree) -> None:
    write_log(tree.home, "store", "2026-01-01T00:00:00.000Z INFO    one")
    done = tree.run("logs", "stoer")
    assert done.returncode == 2
    assert "did you mean store?" in done.stderr


def test_logs_are_followed(tree: Tree) -> None:
    write_log(tree.home, "store", "2026-01-01T00:00:00.000Z INFO    one")
    following = tree.popen("logs", "-f")
    assert following.stdout is not None
    assert following.stdout.readline().endswith("one\n")
    write_log(tree.home, "llm.0", "2026-01-01T00:00:01.000Z INFO    of a new actor")
    assert following.stdout.readline().endswith("of a new actor\n")
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=10)
    assert following.returncode == 130
