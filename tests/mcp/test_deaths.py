"""Servers that die, hang or never begin: each costs its own calls, and nothing of it is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.mcp.servers import NO_MODEL, asking, call, family, is_ready, running_of, scripted
from tests.tree import Tree, eventually, running

CONFIG = (
    NO_MODEL
    + scripted("a", timeout_s=1)
    + scripted("b")
    + "[mcp.servers.none]\ncommand = 'no-such-program'\n"
)


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    with running(CONFIG) as tree:
        eventually(lambda: is_ready(tree, "a") and is_ready(tree, "b"))
        yield tree


def works(tree: Tree, server: str) -> bool:
    return call(tree, server, "echo", text="hello").text == "hello"


def test_a_server_that_dies_costs_its_call_and_is_replaced(tree: Tree) -> None:
    pid = tree.actor("mcp.a")["pid"]
    outcome = call(tree, "a", "die")
    assert outcome.kind == "crashed"
    assert "what it did until then may stand" in outcome.text
    assert works(tree, "a")
    assert tree.actor("mcp.a")["pid"] != pid
    assert "SIGKILL" in tree.actor("mcp.a")["last_exit"]["detail"]
    assert works(tree, "b")


def test_a_server_that_hangs_is_given_up_and_replaced(tree: Tree) -> None:
    outcome = call(tree, "a", "wedge")
    assert (outcome.kind, "not done after 1 s" in outcome.text) == ("timeout", True)
    assert works(tree, "b")
    assert eventually(lambda: is_ready(tree, "a") and works(tree, "a"))
    assert "hangs" in tree.actor("mcp.a")["last_exit"]["detail"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_server_that_is_killed_by_hand_is_replaced(tree: Tree, number: signal.Signals) -> None:
    server = asking(tree, lambda client: client.mcp_server("a")).pid
    assert server is not None
    assert server in tree.actor("mcp.a")["children"]
    os.kill(server, number)
    eventually(lambda: not psutil.pid_exists(server))
    assert eventually(lambda: is_ready(tree, "a") and works(tree, "a"))


def test_a_server_that_never_answers_is_said_to_and_hurts_nobody() -> None:
    with running(NO_MODEL + "[supervisor]\nstartup_timeout_s = 8\n" + scripted("mute", "mute")) as tree:
        assert call(tree, "fusion", "time").ok
        eventually(lambda: "did not answer initialize" in str(tree.actor("mcp.mute")["last_exit"]), within=30)
        servers = {server.name: server.state for server in asking(tree, lambda client: client.mcp_servers())}
        assert servers["fusion"] == "ready"
        assert servers["mute"] != "ready"


def test_a_program_that_does_not_exist_is_said_so(tree: Tree) -> None:
    eventually(lambda: tree.actor("mcp.none")["state"] == "failed")
    assert "no-such-program cannot be started" in tree.actor("mcp.none")["last_exit"]["detail"]


def test_nothing_of_a_server_survives_its_actor(tree: Tree) -> None:
    call(tree, "b", "spawn")
    actor = tree.actor("mcp.b")["pid"]
    those = family(actor)
    assert "4711" in " ".join(word for process in those for word in process.cmdline())
    os.kill(actor, signal.SIGKILL)
    eventually(lambda: not running_of(those))
    assert eventually(lambda: is_ready(tree, "b") and works(tree, "b"))


def test_nothing_of_a_server_survives_its_keeper(tree: Tree) -> None:
    call(tree, "b", "spawn")
    actor = tree.actor("mcp.b")
    those = family(actor["pid"])
    os.kill(actor["children"][0], signal.SIGKILL)
    eventually(lambda: not running_of(those))
    assert eventually(lambda: is_ready(tree, "b") and works(tree, "b"))


def test_nothing_of_a_server_survives_the_supervisor() -> None:
    with running(NO_MODEL + scripted("a")) as tree:
        eventually(lambda: is_ready(tree, "a"))
        call(tree, "a", "spawn")
        call(tree, "fusion", "time")
        supervisor = tree.supervisor
        assert supervisor is not None
        those = family(supervisor)
        os.kill(supervisor, signal.SIGKILL)
        eventually(lambda: not running_of(those), within=2)
