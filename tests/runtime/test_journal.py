"""The record of events: whole lines, rotated, and nothing that a full disk could stop."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from fusiond.protocol.control import Event
from fusiond.runtime import journal
from fusiond.runtime.journal import Journal, stamp


def lines(path: Path) -> list[Event]:
    return [msgspec.json.decode(line, type=Event) for line in path.read_bytes().splitlines()]


def test_an_event_is_one_line_of_json_with_what_is_known_of_it(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    Journal(path).record("replaced", "llm.0", pid=7, generation=2, detail="killed by SIGKILL", ms=4.2049)
    (event,) = lines(path)
    assert (event.kind, event.actor, event.pid, event.generation, event.ms) == (
        "replaced",
        "llm.0",
        7,
        2,
        4.2,
    )
    assert path.stat().st_mode & 0o777 == 0o600


def test_times_are_utc_to_the_millisecond() -> None:
    assert stamp(0) == "1970-01-01T00:00:00.000Z"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp())


def test_a_second_life_of_the_daemon_goes_on_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for _ in range(2):
        record = Journal(path)
        record.record("started", "supervisor")
        record.close()
    assert len(lines(path)) == 2


def test_a_large_file_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_ROTATE_AT", 200)
    path = tmp_path / "events.jsonl"
    record = Journal(path)
    for number in range(10):
        record.record("beat", "llm.0", detail=str(number))
    older = lines(path.with_suffix(".jsonl.1"))
    newer = lines(path) if path.exists() else []
    assert [event.detail for event in older + newer][-1] == "9"
    assert len(older) < 10


def test_subscribers_hear_of_an_event_even_when_the_disk_does_not_take_it() -> None:
    record = Journal(Path("/dev/full"))
    heard: list[Event] = []
    end = record.subscribe(heard.append)
    record.record("ready", "store")
    end()
    record.record("ready", "agent.0")
    assert [event.actor for event in heard] == ["store"]
