"""`fusionctl reload` and SIGHUP replace what a change concerns, and nothing else; a bad file replaces nothing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fusionctl.gated_model import GatedModel
from tests.tree import Tree, eventually
from tests.tree import running as a_daemon

LAB = 'model = "lab/echo"\n[providers.lab]\nbase_url = "http://127.0.0.1:9/v1"\n'


@pytest.fixture(scope="module")
def shared() -> Iterator[Tree]:
    """One daemon for the tests in which nothing but its configuration changes."""
    with a_daemon(LAB) as tree:
        yield tree


@pytest.fixture
def running(shared: Tree) -> Tree:
    """The same, with LAB as its configuration."""
    shared.configure(LAB)
    shared.ok("reload")
    return shared


def replaced(tree: Tree, change: Callable[[], object]) -> set[str]:
    """The actors that have another process after `change`, or are new, or are gone."""
    before = tree.json("health")
    change()
    after = tree.json("health")
    assert after["status"] == "healthy"
    assert after["supervisor"]["pid"] == before["supervisor"]["pid"]
    old, new = ({actor["name"]: actor["pid"] for actor in health["actors"]} for health in (before, after))
    return {name for name in old | new if old.get(name) != new.get(name)}


def events(tree: Tree, kind: str) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in tree.ok("events", "--json").splitlines())
    return [event for event in lines if event["kind"] == kind]


def recorded(tree: Tree, kind: str) -> list[str]:
    """The same without asking a command for it, for what must go fast."""
    lines = (tree.home / "state" / "events.jsonl").read_text().splitlines()
    return [line for line in lines if f'"kind":"{kind}"' in line]


def supervisor(tree: Tree) -> int:
    return int((tree.home / "run" / "fusiond.lock").read_text())


def hang_up(tree: Tree) -> None:
    os.kill(supervisor(tree), signal.SIGHUP)


# --- only what changed ---------------------------------------------------------------------------------------


def test_nothing_changed_replaces_nothing(running: Tree) -> None:
    assert replaced(running, lambda: running.ok("reload")) == set()
    assert running.ok("reload") == "reloaded, nothing changed\n"


@pytest.mark.parametrize(
    ("text", "concerned"),
    [
        (f'{LAB}[sessions]\nstorage = "memory"\n', {"store"}),
        (f"{LAB}[router]\nqueue_size = 7\n", {"router"}),
        (LAB.replace(":9/", ":8/"), {"llm.0"}),
        (LAB.replace("lab/echo", "lab/other"), {"llm.0", "batch", "agent.0"}),
        (f"{LAB}[supervisor]\nrestart_intensity = 7\n", set()),
        (f"{LAB}[supervisor]\nheartbeat_timeout_ms = 3000\nshutdown_grace_s = 4\n", set()),
    ],
    ids=["sessions", "router", "provider", "model", "intensity", "patience"],
)
def test_a_change_replaces_what_it_concerns_and_nothing_else(
    running: Tree, text: str, concerned: set[str]
) -> None:
    running.configure(text)
    assert replaced(running, lambda: running.ok("reload")) == concerned
    assert replaced(running, lambda: running.ok("reload")) == set()


def test_what_was_replaced_is_said_and_recorded(running: Tree) -> None:
    running.configure(f'{LAB}[sessions]\nstorage = "memory"\n')
    assert running.ok("reload") == "reloaded, replaced: store\n"
    assert events(running, "reloaded")[-1]["detail"] == "store"
    assert running.actor("store")["last_exit"]["reason"] == "reload"


def test_another_key_in_the_key_file_is_taken(running: Tree) -> None:
    key = running.home / "key"
    key.write_text("one")
    running.configure(f'{LAB}api_key_file = "key"\n')
    running.ok("reload")
    assert replaced(running, lambda: running.ok("reload")) == set()
    key.write_text("two")
    assert replaced(running, lambda: running.ok("reload")) == {"llm.0"}


def test_more_replicas_begin_and_fewer_end(running: Tree) -> None:
    running.configure(f"{LAB}[actors.agent]\nreplicas = 2\n")
    assert replaced(running, lambda: running.ok("reload")) == {"agent.1"}
    assert running.actor("agent.1")["state"] == "ready"
    running.configure(LAB)
    pid = running.actor("agent.1")["pid"]
    assert "agent.1" in running.ok("reload")
    assert "agent.1" not in {actor["name"] for actor in running.json("health")["actors"]}
    assert not Path(f"/proc/{pid}").exists()


def test_an_actor_that_is_dismissed_before_it_exists_is_gone_too(running: Tree) -> None:
    forkserver = running.actor("forkserver")
    for pid in (*forkserver["children"], forkserver["pid"]):
        os.kill(pid, signal.SIGSTOP)  # a new actor has to wait for its process
    for text in (f"{LAB}[actors.agent]\nreplicas = 2\n", LAB):
        reloads = len(recorded(running, "reloaded"))
        running.configure(text)
        os.kill(supervisor(running), signal.SIGHUP)
        eventually(lambda before=reloads: len(recorded(running, "reloaded")) > before)  # type: ignore[misc]
    assert running.ok("reload") in ("reloaded, nothing changed\n", "reloaded, replaced: agent.1\n")
    assert "agent.1" not in {actor["name"] for actor in running.json("health")["actors"]}
    assert "Traceback" not in running.daemon_log()
    eventually(lambda: running.actor("forkserver")["pid"] not in (None, forkserver["pid"]))


# --- a bad file ------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[bytes, str]] = {
    "no TOML": (f"{LAB}[router\n".encode(), "line 4: this is not TOML"),
    "unknown key": (f"{LAB}[router]\nqueue_sise = 7\n".encode(), "line 5: unknown key router.queue_sise"),
    "key file": (f'{LAB}api_key_file = "none"\n'.encode(), "none, does not exist"),
    "no text": (b"\xff\xfe", "line 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_changes_nothing_and_the_fault_is_said_and_recorded(running: Tree, name: str) -> None:
    content, words = BAD[name]
    (running.home / "config.toml").write_bytes(content)

    def reload() -> None:
        done = running.run("reload")
        assert done.returncode == 78
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert words in done.stderr

    assert replaced(running, reload) == set()
    assert words in events(running, "refused")[-1]["detail"]
    running.configure(LAB)
    assert running.ok("reload") == "reloaded, nothing changed\n"


# --- SIGHUP ----------------------------------------------------------------------------------------------------


def test_sighup_reloads(running: Tree) -> None:
    running.configure(f'{LAB}[sessions]\nstorage = "memory"\n')
    before = running.actor("store")["pid"]

    def change() -> None:
        hang_up(running)
        eventually(lambda: running.actor("store")["pid"] not in (None, before))
        eventually(lambda: running.json("health")["status"] == "healthy")

    assert replaced(running, change) == {"store"}
    assert events(running, "reloaded")[-1]["detail"] == "store"


def test_sighup_with_a_bad_file_changes_nothing_and_the_log_says_why(running: Tree) -> None:
    running.configure("modle = 1\n")
    refusals = len(events(running, "refused"))

    def change() -> None:
        hang_up(running)
        eventually(lambda: len(events(running, "refused")) > refusals)

    assert replaced(running, change) == set()
    assert "unknown key modle (did you mean model?)" in running.daemon_log()


# --- work under way ----------------------------------------------------------------------------------------------


class Chat:
    """A chat that waits in the middle of its answer."""

    def __init__(self, tree: Tree, model: GatedModel) -> None:
        model.gate.clear()
        if tree.supervisor is None:
            tree.start()
        self._process = tree.popen("chat", "hello there", "--json")
        eventually(lambda: model.asked)
        self._model = model

    def end(self) -> int:
        """Lets it go on; it must end well. Returns how often the model was asked."""
        self._model.gate.set()
        out, err = self._process.communicate(timeout=30)
        assert self._process.returncode == 0, err
        answer = json.loads(out)
        assert answer["text"] == "You said: hello there"
        return int(answer["attempts"])


@pytest.mark.parametrize(
    ("change", "concerned"),
    [("[router]\nqueue_size = 7\n", {"router"}), ("[actors.agent]\nreplicas = 2\n", {"agent.1"})],
    ids=["router", "agent"],
)
def test_a_change_that_does_not_concern_a_chat_does_not_disturb_it(
    tree: Tree, model: GatedModel, change: str, concerned: set[str]
) -> None:
    chat = Chat(tree, model)
    tree.configure(model.configuration + change)
    assert replaced(tree, lambda: tree.ok("reload")) == concerned
    assert chat.end() == 1


ANOTHER_KEY = 'api_key_file = "key"\n'
PATIENT = "[supervisor]\nshutdown_grace_s = 60\n"


def test_an_actor_finishes_what_it_has_before_it_is_replaced(tree: Tree, model: GatedModel) -> None:
    tree.configure(model.configuration + PATIENT)
    chat = Chat(tree, model)
    before = tree.actor("llm.0")["pid"]
    (tree.home / "key").write_text("abc")
    tree.configure(model.configuration + ANOTHER_KEY + PATIENT)
    reload = tree.popen("reload")
    eventually(lambda: tree.actor("llm.0")["state"] == "draining")
    assert reload.poll() is None
    assert chat.end() == 1
    assert reload.communicate(timeout=30)[0] == "reloaded, replaced: llm.0\n"
    assert tree.actor("llm.0")["pid"] != before


def test_past_its_grace_it_is_replaced_and_the_answer_is_whole_all_the_same(
    tree: Tree, model: GatedModel
) -> None:
    impatient = "[supervisor]\nshutdown_grace_s = 0.3\n"
    tree.configure(model.configuration + impatient)
    chat = Chat(tree, model)
    (tree.home / "key").write_text("abc")
    tree.configure(model.configuration + ANOTHER_KEY + impatient)
    assert tree.ok("reload") == "reloaded, replaced: llm.0\n"
    assert model.left.wait(10)
    assert chat.end() == 2


def test_what_is_asked_while_the_router_too_is_replaced_waits_for_the_next_actor(
    tree: Tree, model: GatedModel
) -> None:
    tree.configure(model.configuration + PATIENT)
    first = Chat(tree, model)
    (tree.home / "key").write_text("abc")
    tree.configure(f"{model.configuration}{ANOTHER_KEY}{PATIENT}[router]\nqueue_size = 7\n")
    router = tree.actor("router")["pid"]
    reload = tree.popen("reload")
    eventually(lambda: tree.actor("router")["pid"] not in (None, router))
    eventually(lambda: tree.actor("router")["state"] == "ready")
    assert tree.actor("llm.0")["state"] == "draining"
    second = Chat(tree, model)
    eventually(lambda: tree.actor("agent.0")["in_flight"] == 2)
    assert first.end() == 1
    assert second.end() == 1
    assert reload.communicate(timeout=30)[0] == "reloaded, replaced: router, llm.0\n"
