"""Rubbish at both sockets: nothing dies, nothing grows, a refusal is sent where one can be, and it is logged once."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator

import psutil
import pytest
import zmq

from fusiond.protocol.envelope import (
    MAGIC,
    Failure,
    Refusal,
    Register,
    Reply,
    Request,
    encode,
    pack,
    to_client,
    unpack,
)
from fusiond.protocol.lifeline import Beat
from fusiond.protocol.lifeline import encode as encode_word
from tests.runtime.test_recovery import CONFIG
from tests.tree import Tree
from tests.tree import running as a_daemon

SOCKETS = ["router", "supervisor"]
GARBAGE = [
    b"",
    b"\x00",
    b"hello",
    b"\xff" * 1000,
    b"GET / HTTP/1.1\r\n\r\n",
    pack(MAGIC, b""),
    pack(MAGIC + b"\xc1", b""),
    pack(encode(Request(b"i" * 16, "agent", "chat")), b"")[:12],  # half a message
    pack(encode(Register("llm.0", 1)), b""),  # only actors may say that, and not here
    pack(encode(Reply(b"i" * 16)), b"an answer nobody asked for"),
    encode_word(Beat(1, 0.0, 0, 0)),  # a heartbeat: these sockets take none, from any pid
]


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    """One daemon for all tests of this file: nothing here may hurt it."""
    with a_daemon(CONFIG) as tree:
        before = pids(tree)
        yield tree
        assert pids(tree) == before, "something died of it"


def pids(tree: Tree) -> dict[str, int]:
    return {actor["name"]: actor["pid"] for actor in tree.json("health")["actors"]}


class Stranger:
    """A ZeroMQ peer that says what it likes."""

    def __init__(self, tree: Tree, name: str) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.RCVTIMEO, 5000)
        self.socket.connect(f"ipc://{tree.home}/run/{name}.sock")

    def __enter__(self) -> zmq.Socket[bytes]:
        return self.socket

    def __exit__(self, *_: object) -> None:
        self.context.destroy(linger=0)


@pytest.mark.parametrize("name", SOCKETS)
@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_refused_and_what_follows_is_served(tree: Tree, name: str, garbage: bytes) -> None:
    with Stranger(tree, name) as stranger:
        stranger.send(garbage)
        refusal = to_client.decode(unpack(stranger.recv())[0])
        assert isinstance(refusal, Refusal)
        assert refusal.code == "protocol"
        stranger.send(
            pack(encode(Request(b"j" * 16, "supervisor" if name == "supervisor" else "store", "ping")), b"x")
        )
        header, body = unpack(stranger.recv())
        assert isinstance(to_client.decode(header), Reply)
        assert body == b"x"


BODIES = {
    "no UTF-8": b"\x81\xa5actor\xa2\xff\xfe",
    "nested without end": b"\x81\xa1x" + b"\x91" * 100_000,
    "truncated": b"\x82\xa5actor\xa5llm.0",
    "a list": b"\x91\xa5llm.0",
}
ORDERS = [("supervisor", "kill"), ("supervisor", "restart"), ("agent", "chat"), ("store", "sessions.show")]


@pytest.mark.parametrize(("service", "verb"), ORDERS)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_is_nothing_of_the_kind_is_a_bad_request(
    tree: Tree, service: str, verb: str, body: bytes
) -> None:
    with Stranger(tree, "supervisor" if service == "supervisor" else "router") as stranger:
        stranger.send(pack(encode(Request(b"b" * 16, service, verb)), body))
        failure = to_client.decode(unpack(stranger.recv())[0])
        assert isinstance(failure, Failure)
        assert failure.code == "bad_request", failure.message


@pytest.mark.parametrize("name", SOCKETS)
def test_another_version_of_the_protocol_is_told_so(tree: Tree, name: str) -> None:
    old = MAGIC[:2] + b"\x00" + encode(Request(b"i" * 16, "agent", "chat"))[3:]
    with Stranger(tree, name) as stranger:
        stranger.send(pack(old, b""))
        refusal = to_client.decode(unpack(stranger.recv())[0])
        assert isinstance(refusal, Refusal)
        assert "version 0" in refusal.message


def test_only_an_announced_process_may_speak_to_the_actors_socket(tree: Tree) -> None:
    with Stranger(tree, "actors") as stranger:
        for header in (Register("llm.0", 1), Request(b"i" * 16, "store", "sessions.begin"), Reply(b"i" * 16)):
            stranger.send(pack(encode(header), b""))
            refusal = to_client.decode(unpack(stranger.recv())[0])
            assert isinstance(refusal, Refusal)
            assert refusal.code == "denied"


def test_what_is_not_public_is_denied_to_clients(tree: Tree) -> None:
    with Stranger(tree, "router") as stranger:
        stranger.send(pack(encode(Request(b"k" * 16, "llm", "complete")), b""))
        failure = to_client.decode(unpack(stranger.recv())[0])
        assert isinstance(failure, Failure)
        assert failure.code == "denied"


@pytest.mark.parametrize("name", SOCKETS)
def test_a_hundred_megabytes_are_cut_off_and_memory_stays_flat(tree: Tree, name: str) -> None:
    process = psutil.Process(tree.actor("router")["pid"] if name == "router" else tree.supervisor)
    before = process.memory_info().rss
    for _ in range(3):
        with Stranger(tree, name) as stranger:
            stranger.setsockopt(zmq.RCVTIMEO, 300)
            stranger.send(bytes(100 * 1024 * 1024))
            with pytest.raises(zmq.Again):
                stranger.recv()
    assert process.memory_info().rss - before < 30 * 1024 * 1024


@pytest.mark.parametrize("name", SOCKETS)
def test_a_thousand_connections_that_say_nothing_hold_nobody_up(tree: Tree, name: str) -> None:
    connections = []
    for number in range(1000):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"{tree.home}/run/{name}.sock")
        if number % 2:
            connection.send(b"no ZMTP at all")
        connections.append(connection)
    assert tree.json("health")["status"] == "healthy"
    assert tree.ok("sessions", "list", "--json") == "[]\n"
    for connection in connections:
        connection.close()


def test_a_flood_of_rubbish_is_logged_a_few_times_not_a_million(tree: Tree) -> None:
    with Stranger(tree, "router") as stranger:
        for _ in range(2000):
            stranger.send(b"rubbish")
            unpack(stranger.recv())
    lines = (json.loads(line) for line in tree.ok("events", "--json").splitlines())
    events = [event for event in lines if event["kind"] == "refused"]
    assert 0 < len(events) < 50
    log = (tree.home / "state" / "logs" / "router.log").read_text()
    assert log.count("refused") < 50


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_another_user_cannot_connect(tree: Tree) -> None:
    pid = os.fork()
    if pid == 0:
        os.setuid(65534)
        try:
            socket.socket(socket.AF_UNIX).connect(f"{tree.home}/run/router.sock")
        except PermissionError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
