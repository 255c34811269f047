"""Other supervisors, each keeping one reporting child alive: runit, supervisord, and a plain loop of wait and exec."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import ClassVar

import msgspec
import zmq

from tests.bench.tree import clean_environment

_CHILD = Path(__file__).with_name("reporting_child.py")
_LIMIT_S = 20


class Supervised:
    """A child under some supervisor. Its pid is known because it reports it each time it starts."""

    name: ClassVar[str]
    shortest_life_s: ClassVar[float] = 0.0
    """A supervisor that punishes a short life is given a longer one: we measure the replacement, not the penalty."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fusion-bench-"))
        self.reports: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        endpoint = f"ipc://{self.folder}/reports"
        self.reports.bind(endpoint)
        self.command = [sys.executable, str(_CHILD), endpoint]
        self.begin()
        self.pid = self._report()
        self.born = time.monotonic()

    @classmethod
    def missing(cls) -> str:
        """The program that is not installed, "" if nothing is missing."""
        return ""

    def begin(self) -> None:
        """Starts the supervisor and with it the child."""
        raise NotImplementedError

    def respawn(self) -> None:
        """What is left to do to the child's end: nothing, where a supervisor does it."""

    def end(self) -> None:
        """Ends the supervisor and the child."""
        raise NotImplementedError

    def rest(self) -> None:
        """Waits until the child may be killed."""
        time.sleep(max(0.0, self.born + self.shortest_life_s - time.monotonic()))

    def kill(self) -> float:
        """SIGKILL to the child; seconds until the next one reports."""
        began = time.perf_counter()
        os.kill(self.pid, signal.SIGKILL)
        self.respawn()
        self.pid = self._report()
        took = time.perf_counter() - began
        self.born = time.monotonic()
        return took

    def _report(self) -> int:
        if not self.reports.poll(_LIMIT_S * 1000):
            raise TimeoutError(f"{self.name}: no child reported within {_LIMIT_S} s")
        return msgspec.msgpack.decode(self.reports.recv_multipart()[1], type=int)

    def close(self) -> None:
        self.end()
        self.reports.close(0)
        shutil.rmtree(self.folder, ignore_errors=True)


class Exec(Supervised):
    """The floor of every supervisor that starts Python again: wait for the end, exec, imports."""

    name = "exec and imports, nothing else"

    def begin(self) -> None:
        self._process = subprocess.Popen(self.command, env=clean_environment())

    def respawn(self) -> None:
        self._process.wait()
        self.begin()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


class Runit(Supervised):
    name = "runit (`runsv`)"
    shortest_life_s = 1.1  # it waits after a life of less than a second

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which("runsv") else "runsv"

    def begin(self) -> None:
        service = self.folder / "service"
        service.mkdir()
        run = service / "run"
        run.write_text(f"#!/bin/sh\nexec {shlex.join(self.command)}\n")
        run.chmod(0o755)
        self._process = subprocess.Popen(["runsv", str(service)], env=clean_environment())

    def end(self) -> None:
        self._process.terminate()  # ends the child too
        self._process.wait(_LIMIT_S)


class Supervisord(Supervised):
    name = "supervisord"
    shortest_life_s = 1.1  # `startsecs`

    @classmethod
    def missing(cls) -> str:
        return "" if _supervisord() else "supervisord"

    def begin(self) -> None:
        configuration = self.folder / "supervisord.conf"
        configuration.write_text(
            f"[supervisord]\nnodaemon=true\nuser=root\nlogfile={self.folder}/log\npidfile={self.folder}/pid\n"
            f"[program:child]\ncommand={shlex.join(self.command)}\nautorestart=true\n"
            "stdout_logfile=NONE\nstderr_logfile=NONE\n"
        )
        self._process = subprocess.Popen(
            [_supervisord(), "-c", str(configuration)],
            env=clean_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(_LIMIT_S)


def _supervisord() -> str:
    """Its path, from this environment or the system's; "" if there is none."""
    beside = Path(sys.executable).with_name("supervisord")
    return str(beside) if beside.exists() else shutil.which("supervisord") or ""
