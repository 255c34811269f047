"""Inputs that once broke something like this, or look as if they could: a folder for each decoder."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def corpus(kind: str) -> dict[str, bytes]:
    """The inputs of one decoder by name."""
    return {path.name: path.read_bytes() for path in sorted((_HERE / kind).iterdir())}
