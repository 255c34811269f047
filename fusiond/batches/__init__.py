"""Batch files: what goes in, what comes out. PURE: lines of bytes in, values out; no clock, no files of its own.

- `cutting`: a file, growing or not, cut into lines
- `text`, `jsonl`: what one line says, and why it is no item
- `reading`: the items of a file, in order
- `surveying`: all that is wrong with a file, before anything is sent; `repeats` finds ids given twice
- `results`: the lines that come out
- `pace`: how fast a provider may be asked
"""

from __future__ import annotations

from fusiond.batches.cutting import MAX_LINE, lines
from fusiond.batches.reading import Format, Item, Problem, items
from fusiond.batches.results import Failure, Response, result_line
from fusiond.batches.surveying import MAX_PROBLEMS, Digest, Survey, survey

__all__ = [
    "MAX_LINE",
    "MAX_PROBLEMS",
    "Digest",
    "Failure",
    "Format",
    "Item",
    "Problem",
    "Response",
    "Survey",
    "items",
    "lines",
    "result_line",
    "survey",
]
