"""What the service manager hears."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from fusiond.runtime.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(5)
    return listener


def environment(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), "PATH": "/bin", **more}


def test_each_turn_of_its_life_is_told(manager: socket.socket) -> None:
    notifier = Notifier(environment(manager))
    notifier.ready("healthy")
    assert manager.recv(1000) == b"READY=1\nSTATUS=healthy"
    notifier.status("healthy")
    notifier.status("degraded: llm.0 has failed")
    assert manager.recv(1000) == b"STATUS=degraded: llm.0 has failed"
    notifier.reloading()
    assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    notifier.stopping()
    assert manager.recv(1000) == b"STOPPING=1\nSTATUS=stopping"


def test_no_child_is_to_speak_for_us(manager: socket.socket) -> None:
    env = environment(manager, WATCHDOG_USEC="1000000", WATCHDOG_PID=str(os.getpid()))
    Notifier(env)
    assert env == {"PATH": "/bin"}


async def test_the_watchdog_is_petted_twice_in_its_time(manager: socket.socket) -> None:
    manager.setblocking(False)
    Notifier(environment(manager, WATCHDOG_USEC="100000")).watch()
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(4):
        assert await loop.sock_recv(manager, 100) == b"WATCHDOG=1"
    assert 0.1 < loop.time() - began < 2


async def test_the_watchdog_of_another_process_is_not_ours(manager: socket.socket) -> None:
    notifier = Notifier(environment(manager, WATCHDOG_USEC="100000", WATCHDOG_PID="1"))
    notifier.watch()
    notifier.ready("healthy")
    assert manager.recv(100).startswith(b"READY=1")


def test_without_a_manager_nothing_happens() -> None:
    notifier = Notifier({})
    notifier.ready("healthy")
    notifier.stopping()
