"""A real daemon in a temporary home, for tests: started, asked, and gone without a trace afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[1]
_NOT_INHERITED = (
    *("FUSION_", "OPENAI_", "ANTHROPIC_", "NO_COLOR", "RUNTIME_DIRECTORY", "STATE_DIRECTORY"),
    *("COLUMNS", "LINES"),  # a terminal knows its size
)


class Tree:
    """The daemon of `home`, spoken to as a person does: through the command line, in processes of its own."""

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None) -> None:
        self.home = home
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(_NOT_INHERITED)}
        self.environment = inherited | {"FUSION_HOME": str(home), "PYTHONPATH": str(ROOT), "TERM": "xterm"}
        self.environment |= environment or {}

    @property
    def command(self) -> list[str]:
        """The beginning of every `fusionctl` command line."""
        return [sys.executable, "-m", "fusionctl"]

    def configure(self, text: str) -> None:
        """Writes `config.toml`; a running daemon takes it at the next reload."""
        (self.home / "config.toml").write_text(text)

    def run(self, *args: str, input: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """`fusionctl ARGS`, to its end."""
        return subprocess.run(
            [*self.command, *args],
            input=input,
            capture_output=True,
            text=True,
            env=self.environment | environment,
            cwd=self.home,
            timeout=60,
            check=False,
        )

    def ok(self, *args: str, input: str = "") -> str:
        """What `fusionctl ARGS` puts out; it must succeed."""
        done = self.run(*args, input=input)
        assert done.returncode == 0, (
            f"fusionctl {' '.join(args)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def json(self, *args: str) -> Any:
        """The document that `fusionctl ARGS --json` puts out, whatever its exit code."""
        return json.loads(self.run(*args, "--json").stdout)

    def popen(self, *args: str) -> subprocess.Popen[str]:
        """`fusionctl ARGS`, under way, its output in pipes, without input. The caller waits for its end."""
        return subprocess.Popen(
            [*self.command, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=self.home,
        )

    def start(self) -> None:
        self.run("start")
        assert self.supervisor is not None, self.daemon_log()

    @property
    def supervisor(self) -> int | None:
        """The pid of the supervisor, None if it is not running."""
        document = self.json("health")
        return None if document["status"] == "down" else int(document["supervisor"]["pid"])

    def actor(self, name: str) -> dict[str, Any]:
        """An actor's entry in `health`."""
        found: dict[str, Any] = next(each for each in self.json("health")["actors"] if each["name"] == name)
        return found

    def daemon_log(self) -> str:
        path = self.home / "state" / "logs" / "fusiond.log"
        return path.read_text() if path.exists() else ""

    def processes(self) -> list[psutil.Process]:
        """Every process of this home that is not a zombie, whether or not it still has its parent."""
        return [process for process in psutil.process_iter() if self._belongs(process)]

    def remove(self) -> list[str]:
        """Ends the daemon and whatever is left; returns what had to be killed."""
        self.run("stop")
        left = self.processes()
        psutil.wait_procs(left, timeout=2)
        killed = []
        for process in left:
            if self._belongs(process):
                killed.append(f"{process.pid} {' '.join(process.cmdline())}")
                process.kill()
        return killed

    def _belongs(self, process: psutil.Process) -> bool:
        """Its command line, its log or its environment names this home."""
        home = str(self.home)
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                return False
            if home in " ".join(process.cmdline()):
                return True
            written_to = (f"/proc/{process.pid}/fd/{number}" for number in (1, 2))
            if any(str(Path(fd).readlink()).startswith(home) for fd in written_to):
                return True
            mark = f"FUSION_TREE={home}/run".encode()
            return mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        except (psutil.Error, OSError):
            return False


@contextmanager
def running(
    config: str, files: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Tree]:
    """A daemon for many tests, with this configuration and these files beside it; nothing may be left of it."""
    folder = Path(tempfile.mkdtemp(prefix="fu"))
    home = folder / "a home"
    home.mkdir(mode=0o700)
    tree = Tree(home, environment)
    try:
        tree.configure(config)
        for name, text in (files or {}).items():
            (home / name).write_text(text)
        tree.start()
        yield tree
    finally:
        left = tree.remove()
        shutil.rmtree(folder)
    assert not left, f"left behind: {left}"


def eventually(look: Callable[[], T], within: float = 15.0) -> T:
    """What `look` returns as soon as it is true."""
    deadline = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {within:g} s: {found!r}"
        time.sleep(0.02)
    return found
