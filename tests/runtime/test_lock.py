"""One daemon for each home."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusiond.errors import AlreadyRunning
from fusiond.runtime import lock


def test_the_second_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "fusiond.lock"
    held = lock.acquire(path)
    with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}"):
        lock.acquire(path)
    lock.release(path, held)
    assert not path.exists()
    lock.release(path, lock.acquire(path))


def test_a_file_left_behind_by_the_dead_does_not_disturb(tmp_path: Path) -> None:
    path = tmp_path / "fusiond.lock"
    path.write_text("4194304\n and more")
    held = lock.acquire(path)
    assert path.read_text() == f"{os.getpid()}\n"
    lock.release(path, held)


def test_the_death_of_the_holder_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "fusiond.lock"
    pid = os.fork()
    if pid == 0:
        lock.acquire(path)
        os._exit(0)
    os.waitpid(pid, 0)
    lock.release(path, lock.acquire(path))
