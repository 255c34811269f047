"""The actors' logs as entries: parsed, filtered, merged by time. Pure.

A line is `2026-11-22T13:00:00.123Z INFO    message`. What C code and stack dumps write in between has no
stamp; such a line belongs to the one before it, and shares its time, its level and its fate in a filter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fusiond.errors import UsageError

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

_STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([A-Z]+) +(.*)")
_REQUEST = re.compile(r" \[request ([0-9a-f]{8,})\]$")
_AGO = re.compile(r"(\d+(?:\.\d+)?) ?(s|m|min|h|d)(?: ago)?")
_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days"}


class Entry(NamedTuple):
    """A line of a log. `time` is as recorded, "" before the first stamp; `stamped`: the line has its own.

    `request`: the id of the client's request that it is about, "" for none.
    """

    time: str
    level: str
    actor: str
    text: str
    stamped: bool
    request: str = ""


class Filter(NamedTuple):
    """What to show: nothing before `since`, nothing below `level`, only what names `request`; "" for no
    limit.
    """

    since: str = ""
    level: str = ""
    request: str = ""

    def admits(self, entry: Entry) -> bool:
        """Judges a stamped entry."""
        if entry.time < self.since or self.request not in f"{entry.text} {entry.request}":
            return False
        return (
            not self.level
            or entry.level not in LEVELS
            or LEVELS.index(entry.level) >= LEVELS.index(self.level)
        )


class Reader:
    """Turns the lines of one actor's log into entries; lines may come in several portions."""

    def __init__(self, actor: str, wanted: Filter) -> None:
        self._actor = actor
        self._wanted = wanted
        self._last = Entry("", "INFO", actor, "", False)
        self._admitted = wanted == Filter()

    def read(self, lines: Iterable[str]) -> Iterator[Entry]:
        """The entries that the filter admits."""
        for line in lines:
            match = _STAMPED.match(line)
            if match:
                text, request = _apart(match[3])
                self._last = Entry(match[1], match[2], self._actor, text, True, request)
                self._admitted = self._wanted.admits(self._last)
                entry = self._last
            else:
                entry = self._last._replace(text=line, stamped=False)
            if self._admitted:
                yield entry


def _apart(text: str) -> tuple[str, str]:
    """The message, and the request that stands behind it."""
    match = _REQUEST.search(text)
    return (text[: match.start()], match[1]) if match else (text, "")


def document(entry: Entry) -> dict[str, str]:
    """The entry for a program."""
    return {
        "time": entry.time,
        "level": entry.level,
        "actor": entry.actor,
        "message": entry.text,
        "request": entry.request,
    }


def line(entry: Entry, width: int) -> str:
    """The entry as a line; `width`: columns for the actor's name, 0 leaves it out."""
    if not entry.stamped and not width:
        return entry.text
    name = f"{entry.actor:<{width}} " if width else ""
    if not entry.stamped:
        return f"{'':<24} {name}{entry.text}"
    request = f" [request {entry.request}]" if entry.request else ""
    return f"{entry.time} {name}{entry.level:<7} {entry.text}{request}"


def since(text: str, now: datetime) -> str:
    """A moment as logs write it, from `10m`, `2 h ago`, an ISO 8601 date or time (local without a zone)."""
    match = _AGO.fullmatch(text.strip())
    if match:
        at = now - timedelta(**{_UNITS[match[2]]: float(match[1])})
    else:
        try:
            at = datetime.fromisoformat(text.strip()).astimezone()
        except ValueError:
            raise UsageError(
                f"'{text}' is no time", advice="write 30s, 10m, 2h, 1d, or a date and time: 2026-11-22T13:00"
            ) from None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
