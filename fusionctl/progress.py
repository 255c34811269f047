"""How a batch is shown while it runs: a bar on a terminal, now and then a line elsewhere, events for a program."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from fusionctl import output, render
from fusionctl.invocation import notice

if TYPE_CHECKING:
    from fusiond.protocol.batches import Progress

_LINE_EVERY = 5.0  # seconds


class Show(Protocol):
    """Is told how far a job has come."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def tell(self, progress: Progress) -> None: ...
    def notice(self, line: str) -> None:
        """Something else the person is to know."""


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def tell(self, progress: Progress) -> None:  # noqa: ARG002 — as the others
        return None

    def notice(self, line: str) -> None:
        notice(line)


class Events(Silent):
    """A line of JSON on standard output for each step."""

    def tell(self, progress: Progress) -> None:
        output.put_json(progress)


class Lines(Silent):
    """A line on standard error every few seconds, and when something is the matter."""

    def __init__(self) -> None:
        self._next = 0.0
        self._reason = ""

    def tell(self, progress: Progress) -> None:
        now = time.monotonic()
        if now >= self._next or progress.reason != self._reason:
            self._next, self._reason = now + _LINE_EVERY, progress.reason
            notice(render.progress(progress))


class Bar(Silent):
    """A bar on the terminal that standard error is."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            BarColumn(bar_width=None),
            TextColumn("{task.fields[words]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bars.add_task("", total=None, words="")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def tell(self, progress: Progress) -> None:
        done = progress.completed + progress.failed
        self._bars.update(self._task, total=progress.total, completed=done, words=render.progress(progress))

    def notice(self, line: str) -> None:
        self._bars.console.print(line, markup=False, highlight=False)


def show(*, silent: bool, as_json: bool) -> Show:
    """What fits the place."""
    if as_json:
        return Events()
    if silent:
        return Silent()
    return Bar() if sys.stderr is not None and sys.stderr.isatty() else Lines()
