"""The report of a drill as a person reads it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusionctl.render import Paint, plain

if TYPE_CHECKING:
    from fusionctl.drilling import DrillReport, Spread

_MOMENTS = ("noticed", "replaced", "ready")


def table(report: DrillReport, paint: Paint = plain) -> list[str]:
    """A line for each actor and kind of fault, then what became of the requests."""
    width = max((len(faults.actor) for faults in report.faults), default=0)
    lead = f"{'':<{width}}  {'':<5} {'':>5}"
    lines = [
        lead + "".join(f"{f'{moment}, ms':>26}" for moment in _MOMENTS),
        f"{'actor':<{width}}  {'fault':<5} {'count':>5}" + f"{'p50':>10}{'p99':>8}{'max':>8}" * len(_MOMENTS),
    ]
    lines = [paint(line, "faint") for line in lines]
    for faults in report.faults:
        spreads = (faults.noticed_ms, faults.respawned_ms, faults.ready_ms)
        lines.append(
            f"{faults.actor:<{width}}  {faults.kind:<5} {faults.count:>5}" + "".join(map(_spread, spreads))
        )
    asked, recovery = report.requests, report.recovery_ms
    bad = asked.failed or asked.lost or asked.doubled
    return [
        *lines,
        f"recovery of all, ms: p50 {_ms(recovery.p50)}, p99 {_ms(recovery.p99)}, max {_ms(recovery.max)}",
        f"requests: {asked.completed:,} completed, {asked.resumed:,} of them resumed; "
        + paint(
            f"{asked.failed:,} failed, {asked.lost:,} lost, {asked.doubled:,} doubled",
            "bad" if bad else "good",
        ),
        paint(f"processes left: {report.processes_left}", "bad" if report.processes_left else "good"),
        f"the same faults again: --seed {report.seed} --seconds {report.seconds}",
    ]


def _spread(times: Spread) -> str:
    return f"{_ms(times.p50):>10}{_ms(times.p99):>8}{_ms(times.max):>8}"


def _ms(time: float | None) -> str:
    return "–" if time is None else f"{time:.1f}"
