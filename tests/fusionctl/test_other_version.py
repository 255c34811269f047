"""A daemon that speaks another version of the protocol, after an upgrade say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.tree import Tree, eventually

DAEMON = """
import fcntl, os, sys, zmq
run = sys.argv[2]
os.makedirs(run, mode=0o700)
lock = open(run + "/fusiond.lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
router = zmq.Context().socket(zmq.ROUTER)
router.bind("ipc://" + run + "/supervisor.sock")
lock.write(str(os.getpid()))
lock.flush()
while True:
    who, _ = router.recv_multipart()
    header = b"FU\\x63of another age"
    router.send_multipart([who, len(header).to_bytes(4, "big") + header])
"""


@pytest.fixture
def daemon(tree: Tree) -> Iterator[subprocess.Popen[bytes]]:
    run = tree.home / "run"
    with subprocess.Popen([sys.executable, "-c", DAEMON, "fusiond", str(run)]) as process:
        eventually(lambda: (run / "fusiond.lock").exists() and (run / "fusiond.lock").read_text())
        yield process
        process.kill()


@pytest.mark.usefixtures("daemon")
def test_it_is_recognised_and_the_person_is_told_what_to_do(tree: Tree) -> None:
    done = tree.run("health")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "protocol version 99, this side speaks 1" in done.stderr
    assert "fusionctl stop" in done.stderr


def test_it_can_be_stopped_all_the_same(tree: Tree, daemon: subprocess.Popen[bytes]) -> None:
    assert tree.ok("stop") == f"stopped: pid {daemon.pid}\n"
    assert daemon.wait(timeout=5) == -15
