"""`python -m tests.bench [SCRIPT…]`: runs the benchmarks and prints their tables.

Examples:  python -m tests.bench            everything but soak (about a quarter of an hour)
           python -m tests.bench recovery --rounds 20
           python -m tests.bench roundtrip startup --json
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence

from tests.bench import (
    agents,
    batch,
    calls,
    clients,
    first_token,
    idle,
    machine,
    model,
    recovery,
    resume,
    roundtrip,
    service,
    soak,
    startup,
    streams,
    throughput,
)
from tests.bench.report import Report

_SCRIPTS = (
    "recovery",
    "model",
    "resume",
    "roundtrip",
    "first_token",
    "throughput",
    "batch",
    "streams",
    "agents",
    "calls",
    "startup",
    "idle",
    "clients",
    "service",
)
_ONLY_IF_NAMED = ("soak",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if every target was met, else 1."""
    options = _parse(arguments)
    # so that every daemon and peer is ended too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    found = machine.facts()
    if not options.json:
        print(machine.markdown(found), flush=True)
    reports = []
    for name in options.scripts or _SCRIPTS:
        report = _run(name, options)
        reports.append(report)
        if not options.json:
            print(f"\n{report.markdown()}", flush=True)
    if options.json:
        print(json.dumps({"machine": found, "reports": [report.data() for report in reports]}, indent=1))
    return int(any(row.met is False for report in reports for row in report.rows))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "scripts",
        nargs="*",
        metavar="SCRIPT",
        help=f"of {', '.join(_SCRIPTS)}; default: all of these; {', '.join(_ONLY_IF_NAMED)} only if named",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    parser.add_argument("--rounds", type=int, help="kills of each kind, or runs of each command, or blocks")
    parser.add_argument(
        "--window", type=float, default=60, help="seconds of silence that `idle` watches (60)"
    )
    parser.add_argument(
        "--requests", type=int, default=200_000, help="chats that `soak` asks for (200,000: some minutes)"
    )
    options = parser.parse_args(arguments)
    known = (*_SCRIPTS, *_ONLY_IF_NAMED)
    if unknown := [name for name in options.scripts if name not in known]:
        parser.error(f"there is no script {unknown[0]!r}; there are: {', '.join(known)}")
    return options


def _run(name: str, options: argparse.Namespace) -> Report:
    times = options.rounds
    runs: dict[str, Callable[[], Report]] = {
        "recovery": lambda: recovery.run(_say, rounds=times or 100),
        "model": lambda: model.run(_say, rounds=times or 10),
        "resume": lambda: resume.run(_say, rounds=times or 20),
        "roundtrip": lambda: roundtrip.run(_say, blocks=times or 16),
        "first_token": lambda: first_token.run(_say, rounds=times or 1000),
        "throughput": lambda: throughput.run(_say, blocks=times or 8),
        "batch": lambda: batch.run(_say, rounds=times or 3),
        "streams": lambda: streams.run(_say, rounds=times or 3),
        "agents": lambda: agents.run(_say, rounds=times or 5),
        "calls": lambda: calls.run(_say, blocks=times or 20),
        "startup": lambda: startup.run(_say, rounds=times or 40),
        "idle": lambda: idle.run(_say, window_s=options.window),
        "clients": lambda: clients.run(_say),
        "service": lambda: service.run(_say, rounds=times or 10),
        "soak": lambda: soak.run(_say, requests=options.requests),
    }
    report = runs[name]()
    _say("")
    return report


def _say(text: str) -> None:
    """How far it is, on a terminal only: one line, written over."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
