"""What a daemon that died left behind is ended by the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from fusiond.paths import TREE
from fusiond.runtime.leftovers import sweep
from tests.tree import Tree, eventually

TITLED = "import setproctitle, time; setproctitle.setproctitle({title!r}); print(flush=True); time.sleep(60)"


@contextmanager
def orphan(code: str, **environment: str) -> Iterator[psutil.Process]:
    """A process that has lost its parent, stopped as those are that did not die with it."""
    command = [sys.executable, "-c", code]
    starter = f"import subprocess; print(subprocess.Popen({command!r}, stdout=2).pid)"
    with subprocess.Popen(
        [sys.executable, "-c", starter],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | environment,
        text=True,
    ) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        process = psutil.Process(int(started.stdout.readline()))
        started.stderr.readline()  # its title is what it is to be
    process.send_signal(signal.SIGSTOP)
    try:
        yield process
    finally:
        if process.is_running():
            process.kill()


@pytest.mark.parametrize("name", ["forkserver", "blank", "llm.0"])
def test_an_actor_without_a_supervisor_is_ended(tmp_path: Path, name: str) -> None:
    with orphan(TITLED.format(title=f"fusiond: {name}")) as process:
        sweep(tmp_path)  # or a daemon that starts beside us did it
        eventually(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def test_what_an_actor_of_this_home_started_is_ended_and_nothing_of_another_home(tmp_path: Path) -> None:
    code = "import time; print(flush=True); time.sleep(60)"
    with (
        orphan(code, **{TREE: str(tmp_path / "run")}) as ours,
        orphan(code, **{TREE: str(tmp_path / "run2")}) as others,
    ):
        swept = sweep(tmp_path / "run")
        assert ours.pid in swept
        assert others.pid not in swept


def test_a_running_tree_is_left_alone_by_another_homes_start(tree: Tree, tmp_path: Path) -> None:
    tree.start()
    pids = {process.pid for process in tree.processes()}
    assert not pids & set(sweep(tmp_path))


def test_the_children_of_a_daemon_that_has_no_title_yet_are_left_alone(tmp_path: Path) -> None:
    blank = TITLED.format(title="fusiond: blank")
    starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {blank!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", starter, "-m", "fusiond"], stdout=subprocess.PIPE, start_new_session=True
    ) as daemon:
        assert daemon.stdout is not None
        daemon.stdout.readline()
        (child,) = psutil.Process(daemon.pid).children()
        assert child.cmdline()[0] == "fusiond: blank"
        assert child.pid not in sweep(tmp_path)
        os.killpg(daemon.pid, signal.SIGKILL)


def test_the_next_daemon_ends_what_is_left_and_says_so(tree: Tree) -> None:
    code = "import time; print(flush=True); time.sleep(60)"
    with orphan(code, **{TREE: f"{tree.home}/run"}) as process:
        tree.start()
        eventually(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
        assert f"left behind: {process.pid}" in tree.daemon_log()
