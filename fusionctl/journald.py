"""What a service of systemd logs, as entries: read by journalctl."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from fusionctl.logbook import Entry, Filter
from fusionctl.service_manager import Unit
from fusiond.errors import Denied, FusionError

_LEVELS = {"7": "DEBUG", "6": "INFO", "5": "INFO", "4": "WARNING"}  # what is more important is an ERROR
_SUPERVISOR = "supervisor"


def entries(unit: Unit, actor: str | None, wanted: Filter, follow: bool) -> Iterator[Entry]:
    """What the filter admits. Raises Denied where the journal is not for this user."""
    command = [
        *unit.journalctl(),
        "--output=json",
        "--no-pager",
        "--quiet",
        *(["--follow", "--lines=all"] if follow else []),
    ]
    if wanted.since:
        at = datetime.fromisoformat(wanted.since)
        command.append(f"--since=@{at.timestamp():.3f}")
    try:
        journal = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise FusionError("journalctl is not there, and the logs are in the journal") from None
    try:
        assert journal.stdout is not None
        name = "supervisor" if actor == "fusiond" else actor
        for line in journal.stdout:
            entry = _entry(msgspec.json.decode(line))
            if name in (None, entry.actor) and wanted.admits(entry):
                yield entry
        assert journal.stderr is not None
        if said := journal.stderr.read().decode(errors="replace").strip():
            raise Denied(said.splitlines()[-1], advice="root and the group systemd-journal may read it")
    finally:
        journal.kill()
        journal.wait()


def _entry(record: dict[str, Any]) -> Entry:
    at = datetime.fromtimestamp(int(record["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
    message = record.get("MESSAGE") or ""
    if isinstance(message, list):  # bytes that are no text
        message = bytes(message).decode(errors="replace")
    return Entry(
        time=at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        level=_LEVELS.get(str(record.get("PRIORITY", "6")), "ERROR"),
        actor=str(record.get("FUSION_ACTOR", _SUPERVISOR)),
        text=str(message),
        stamped=True,
        request=str(record.get("FUSION_REQUEST", "")),
    )
