"""A table of measurements, as Markdown for a person and as plain data for a program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of `samples`, which must not be empty."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def p50(samples: Sequence[float]) -> float:
    return percentile(samples, 50)


@dataclass
class Row:
    """One line: `values` by column; `met` is None where there is no target; `note` is for the last column."""

    name: str
    values: dict[str, float] = field(default_factory=dict)
    target: str = ""
    met: bool | None = None
    note: str = ""


@dataclass
class Report:
    """One script's result. `columns`: name → how many decimals; `how`: what was measured, in a sentence or two."""

    title: str
    how: str
    columns: dict[str, int]
    rows: list[Row] = field(default_factory=list)

    def markdown(self) -> str:
        head = ["", *self.columns, "target", ""]
        lines = [f"### {self.title}", "", self.how, "", _line(head), _line(["---"] * len(head))]
        lines += [_line(self._cells(row)) for row in self.rows]
        return "\n".join(lines)

    def _cells(self, row: Row) -> list[str]:
        figures = [
            f"{row.values[name]:,.{decimals}f}" if name in row.values else "–"
            for name, decimals in self.columns.items()
        ]
        verdict = {None: "", True: "met", False: "**missed**"}[row.met]
        return [row.name, *figures, row.target, "; ".join(filter(None, (verdict, row.note)))]

    def data(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "how": self.how,
            "rows": [
                {"name": r.name, "values": r.values, "target": r.target, "met": r.met, "note": r.note}
                for r in self.rows
            ],
        }


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
