"""What tests of the whole program share."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tree import ROOT, Tree


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty folder to be a daemon's home: a short path, with a space in it."""
    folder = Path(tempfile.mkdtemp(prefix="fu"))
    path = folder / "a home"
    path.mkdir(mode=0o700)
    yield path
    shutil.rmtree(folder)


@pytest.fixture
def tree(home: Path) -> Iterator[Tree]:
    """A daemon's home; nothing runs yet. Afterwards nothing may be left, and whatever is fails the test."""
    tree = Tree(home)
    yield tree
    left = tree.remove()
    assert not left, f"left behind: {left}"


@pytest.fixture
def scripted_server() -> Iterator[str]:
    """The URL of an OpenAI-compatible server that behaves well, in a process of its own."""
    command = [sys.executable, "-m", "tests.llm_server", "--mode", "well"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.terminate()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of few tests that take long come first, so that no worker is left alone with one at the end."""
    items.sort(
        key=lambda item: item.path.parent != Path(__file__).parent and not item.path.match("*_invariants.py")
    )
