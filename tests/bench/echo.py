"""One side of the round trip's comparison, in a process of its own, so that no side disturbs another.

`Side` is the bench's end; `python -m tests.bench.echo NAME [ARGUMENT]` is the process: it reads an order a line from
standard input and answers each with a line of JSON (`obey`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tests.bench.tree import clean_environment

BODY = b"x" * 256
WINDOW = 200
"""Requests in flight when pipelined."""


class Echo(Protocol):
    """Asks another process for an echo of `BODY`."""

    def one_at_a_time(self, count: int) -> list[float]:
        """The seconds that each of `count` round trips took."""

    def pipelined(self, count: int) -> float:
        """The seconds that `count` round trips took, `WINDOW` of them in flight."""

    def close(self) -> None: ...


class Side:
    """A side's process, `module` with its name. Raises RuntimeError if it cannot begin or dies."""

    def __init__(self, name: str, argument: str = "", *, module: str = "tests.bench.echo") -> None:
        self.name = name
        command = [sys.executable, "-m", module, name, argument]
        self._process = subprocess.Popen(
            command, env=clean_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    def one_at_a_time(self, count: int) -> list[float]:
        self._order("one_at_a_time", count)
        return [float(seconds) for seconds in self._answer()]

    def pipelined(self, count: int) -> float:
        self._order("pipelined", count)
        return float(self._answer())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _order(self, what: str, count: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what} {count}\n")
        self._process.stdin.flush()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.name} has ended with {self._process.wait()}")
        return json.loads(line)


def _sides() -> dict[str, Callable[[str], Echo]]:
    def fusion(argument: str) -> Echo:
        from tests.bench.echo_fusion import FusionEcho

        return FusionEcho(argument)

    def floor(_: str) -> Echo:
        from tests.bench.echo_floor import FloorEcho

        return FloorEcho(in_c=False)

    def proxy(_: str) -> Echo:
        from tests.bench.echo_floor import FloorEcho

        return FloorEcho(in_c=True)

    def xoscar(_: str) -> Echo:
        from tests.bench.echo_xoscar import XoscarEcho

        return XoscarEcho()

    def ray(_: str) -> Echo:
        from tests.bench.echo_ray import RayEcho

        return RayEcho()

    return {"fusion": fusion, "floor": floor, "proxy": proxy, "xoscar": xoscar, "ray": ray}


class Closing(Protocol):
    """Whatever takes orders: methods of one number each."""

    def close(self) -> None: ...


def obey(sides: Mapping[str, Callable[[str], Closing]]) -> None:
    """Is the side that the command line names, until there are no more orders."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    side = sides[sys.argv[1]](sys.argv[2])
    try:
        print(json.dumps("ready"), file=answers)
        for line in sys.stdin:
            what, count = line.split()
            print(json.dumps(getattr(side, what)(int(count))), file=answers)
    finally:
        side.close()


if __name__ == "__main__":
    obey(_sides())
