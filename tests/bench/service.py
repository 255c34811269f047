"""The service of a real systemd: from `systemctl start` to ready, and from the death of its main process to the next
answered chat."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench.instant_server import Server
from tests.bench.report import Report, Row, p50, percentile
from tests.systemd_box import Box, booted, why_not

_START_MS = 400.0
_BACK_MS = 500.0

_TIMED = "a=$(date +%s%N); {}; b=$(date +%s%N); echo $(((b - a) / 1000))"


def run(say: Callable[[str], None], *, rounds: int = 10) -> Report:
    """`rounds`: starts, and kills."""
    report = Report(
        "Under systemd",
        "In ms, inside a freshly booted systemd, without the embedded model.",
        {"p50 ms": 0, "max ms": 0},
    )
    start = Row("`systemctl start fusiond`, until it is ready", target=f"p50 ≤ {_START_MS:g}")
    back = Row(
        "kill -9 of the main process → the next `fusionctl chat` answered", target=f"p50 ≤ {_BACK_MS:g}"
    )
    report.rows = [start, back]
    if why := why_not():
        start.note = back.note = f"skipped: {why}"
        return report
    with Server() as server, tempfile.TemporaryDirectory() as folder, booted(Path(folder)) as box:
        box.ok("fusionctl service install")
        box.write("/etc/fusion/config.toml", server.config)
        box.ok("systemctl start fusiond; fusionctl chat hello")
        starts, returns = [], []
        for number in range(rounds):
            say(f"service: {number} of {rounds}")
            box.ok("systemctl stop fusiond")
            starts.append(_timed(box, "systemctl start fusiond"))
            box.ok("fusionctl chat hello")
            returns.append(_timed(box, f"kill -9 {box.main_pid()}; fusionctl chat hello > /dev/null"))
    for row, taken, limit in ((start, starts, _START_MS), (back, returns, _BACK_MS)):
        row.values = {"p50 ms": p50(taken), "max ms": percentile(taken, 100)}
        row.met = row.values["p50 ms"] <= limit
    return report


def _timed(box: Box, command: str) -> float:
    return int(box.ok(_TIMED.format(command)).split()[-1]) / 1000
