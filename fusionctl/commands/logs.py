"""`fusionctl logs`: what the actors wrote, read from their files; it works while the tree is broken."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

import click

from fusionctl import homes, journald, logbook, output
from fusionctl.arguments import ACTOR
from fusionctl.invocation import Invocation
from fusionctl.logbook import Entry, Filter, Reader
from fusionctl.service_manager import unit
from fusionctl.tail import Tail, older
from fusiond.errors import FusionError, NotFound

_EVERY = 0.1  # seconds between two looks at the files
_NAME = 11  # columns for an actor's name where the names to come are not known


@click.command(epilog="Example: fusionctl logs -f llm.0 --level WARNING")
@click.argument("actor", type=ACTOR, required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option("--since", metavar="T", help="Nothing older: 30s, 10m, 2h, 1d, or a date and time.")
@click.option(
    "--level", type=click.Choice(logbook.LEVELS, case_sensitive=False), help="Nothing less important."
)
@click.option(
    "--request", metavar="ID", default="", help="Only what is about this request, in every process."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document a line.")
@click.pass_obj
def logs(
    invocation: Invocation,
    actor: str | None,
    follow: bool,
    since: str | None,
    level: str | None,
    request: str,
    as_json: bool,
) -> None:
    """Show what ACTOR wrote, or all of them, merged by time. `fusiond` is the supervisor's own log.

    What a service of systemd logs is in its journal; it is read from there.
    """
    paths = homes.recorded(invocation.home)
    wanted = Filter(logbook.since(since, datetime.now(UTC)) if since else "", level or "", request)

    def show(entry: Entry, width: int) -> None:
        if as_json:
            output.put_json(logbook.document(entry))
        else:
            click.echo(logbook.line(entry, width))

    if (service := unit(paths)) is not None:
        for entry in journald.entries(service, actor, wanted, follow):
            show(entry, 0 if actor else _NAME)
        return
    files = _Files(paths.logs, actor, wanted)
    for entry in heapq.merge(*files.whole(), key=lambda entry: entry.time):
        show(entry, files.width)
    while follow:
        time.sleep(_EVERY)
        for entry in sorted(files.news(), key=lambda entry: entry.time):
            show(entry, files.width)


class _Files:
    """The logs of a folder: of one actor, or of all that are there and that will be."""

    def __init__(self, folder: Path, actor: str | None, wanted: Filter) -> None:
        self._folder = folder
        self._actor = {"supervisor": "fusiond"}.get(actor or "", actor)
        self._wanted = wanted
        self._open: dict[str, tuple[Tail, Reader]] = {}
        self._look()
        if not self._open:
            raise FusionError(f"there are no logs in {folder}", advice="start the daemon: fusionctl start")

    @property
    def width(self) -> int:
        """Columns for the name; none where there is but one."""
        return 0 if self._actor else max(map(len, self._open))

    def whole(self) -> list[Iterator[Entry]]:
        """Everything so far, one iterator an actor."""
        return [self._all_of(name) for name in self._open]

    def news(self) -> Iterator[Entry]:
        """What has come since."""
        self._look()
        for tail, reader in self._open.values():
            yield from reader.read(tail.lines())

    def _all_of(self, name: str) -> Iterator[Entry]:
        tail, reader = self._open[name]
        yield from reader.read(older(self._folder / f"{name}.log"))
        yield from reader.read(tail.lines())

    def _look(self) -> None:
        there = {path.stem for path in self._folder.glob("*.log")}
        if self._actor is not None and there and self._actor not in there:
            near = get_close_matches(self._actor, there, 1)
            advice = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(there))}"
            raise NotFound(f"there is no log of '{self._actor}'", advice=advice)
        for name in sorted(there if self._actor is None else there & {self._actor}):
            if name not in self._open:
                self._open[name] = Tail(self._folder / f"{name}.log"), Reader(name, self._wanted)
