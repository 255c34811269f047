"""A server that runs elsewhere, reached over streamable HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.mcp.servers import NO_MODEL, asking, call, is_ready
from tests.tree import ROOT, Tree, eventually, running

SECRET = "open-sesame-4711"


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """The process that can be ended and started again at the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.mcp.http_server", str(self.port), SECRET]
        self.process = subprocess.Popen(command, cwd=ROOT)
        eventually(self._listens)

    def _listens(self) -> bool:
        with closing(socket.socket()) as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.end()


@pytest.fixture(scope="module")
def tree(server: Server) -> Iterator[Tree]:
    url = f'url = "http://127.0.0.1:{server.port}/mcp'
    config = (
        f'{NO_MODEL}[mcp.servers.far]\n{url}?key=hidden-7"\nheaders = {{Authorization = "Bearer {SECRET}"}}\n'
        f'timeout_s = 2\n[mcp.servers.shut]\n{url}"\nheaders = {{Authorization = "Bearer wrong-{SECRET}"}}\n'
    )
    with running(config) as tree:
        eventually(lambda: is_ready(tree, "far"))
        yield tree


def test_a_call_is_answered(tree: Tree) -> None:
    outcome = call(tree, "far", "double", n=21)
    assert (outcome.kind, outcome.text) == ("ok", "42")
    shown = asking(tree, lambda client: client.mcp_server("far"))
    assert (shown.transport, shown.server, shown.pid) == ("http", "over-http 3", None)


def test_progress_over_http_gives_a_call_its_time_anew(tree: Tree) -> None:
    assert call(tree, "far", "slow", seconds=3).text == "at last"


def test_new_tools_are_heard_of_from_a_server_that_must_be_asked_to_say_so(tree: Tree) -> None:
    assert asking(tree, lambda client: client.mcp_server("far")).protocol >= "2026"
    assert "mcp:far/late" not in [info.name for info in asking(tree, lambda client: client.mcp_tools("far"))]
    call(tree, "far", "grow")
    eventually(
        lambda: "mcp:far/late" in [info.name for info in asking(tree, lambda client: client.mcp_tools("far"))]
    )
    assert call(tree, "far", "late").text == "did late"


def test_a_server_that_refuses_us_is_said_to(tree: Tree) -> None:
    eventually(lambda: tree.actor("mcp.shut")["last_exit"])
    assert "401" in str(tree.actor("mcp.shut")["last_exit"]["detail"])


def test_no_header_and_no_query_is_ever_logged(tree: Tree) -> None:
    logs = "".join(path.read_text() for path in (tree.home / "state" / "logs").iterdir())
    shown = (
        tree.run("health", "--json").stdout + tree.run("config", "show").stdout + tree.run("events").stdout
    )
    for secret in (SECRET, "hidden-7"):
        assert secret not in logs
        assert secret not in shown


def test_a_server_that_goes_away_is_reached_again_when_it_is_back(tree: Tree, server: Server) -> None:
    server.end()
    outcome = call(tree, "far", "double", n=1)
    assert outcome.kind in ("crashed", "error")
    eventually(lambda: not is_ready(tree, "far"))
    server.start()
    eventually(lambda: is_ready(tree, "far"), within=30)
    assert call(tree, "far", "double", n=2).text == "4"


def test_a_server_that_is_stopped_is_noticed(tree: Tree, server: Server) -> None:
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        assert call(tree, "far", "double", n=1).kind == "timeout"
        eventually(lambda: not is_ready(tree, "far"))
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    eventually(lambda: is_ready(tree, "far"), within=30)
