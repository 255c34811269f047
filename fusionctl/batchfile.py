"""The file of a batch, read twice: what is on standard input is kept aside for the second time."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from fusiond.batches import lines


class BatchFile:
    """`name`: for people to read. A file that grows is read up to where it ended when it was opened."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def lines(self) -> Iterator[bytes]:
        """Its lines, from the beginning each time."""
        self._file.seek(0)
        return lines(self._file, self._size)


@contextmanager
def opened(name: str) -> Iterator[BatchFile]:
    """The file `name`, or standard input for `-`. Raises OSError."""
    if name == "-":
        if sys.stdin is None:
            raise click.UsageError("there is no standard input — give a file")
        with tempfile.TemporaryFile() as aside:
            shutil.copyfileobj(sys.stdin.buffer, aside)
            aside.flush()
            yield BatchFile(aside, "-")
        return
    path = Path(name)
    if path.exists() and not path.is_file():
        raise click.UsageError(f"{name} is no file — give a file of prompts, or - for standard input")
    with path.open("rb") as file:
        yield BatchFile(file, path.name)


@contextmanager
def written(out: Path | None) -> Iterator[BinaryIO]:
    """Where the results go: standard output, or a file that is there whole or not at all.

    What is no file (`/dev/null`, a pipe) is written to as it is.
    """
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = out.resolve()  # through a link to the file itself
    if target.exists() and not target.is_file():
        with target.open("wb") as device:
            yield device
        return
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~umask)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
