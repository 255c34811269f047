"""One SQLite database: opened, kept, and opened again after the disk has failed under it.

Only one thread uses it. All that SQLite or the disk raises comes out as `StorageError`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from fusiond.errors import ConfigError, StorageError
from fusiond.storage import faults, schema

T = TypeVar("T")

SYNCHRONOUS = ("NORMAL", "FULL")
"""What a commit survives: NORMAL the death of any process, FULL a power cut too, at an fsync each."""

_BUSY_TIMEOUT = 0.1  # seconds; the event loop stands still meanwhile: far below a heartbeat's timeout
_WAL_LIMIT = 64 << 20  # bytes that the log may keep on disk after it was larger
_PRIVATE = 0o600
_SMALLEST = 512  # bytes, one page of the smallest size
_ITS_OWN = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError)
"""Errors of one write. Any other is the disk's or the file's, and may have undone the whole transaction."""


class Database:
    """A database at `path`, or in memory if `path` is ""."""

    def __init__(self, path: str, synchronous: str = "NORMAL") -> None:
        if synchronous.upper() not in SYNCHRONOUS:
            raise ConfigError(
                f'synchronous is "{synchronous}"', advice=f"use one of {', '.join(SYNCHRONOUS)}"
            )
        self._path = Path(path).absolute() if path else None
        self._synchronous = synchronous.upper()
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self.where = f"the database {path}" if path else "the database in memory"

    def __repr__(self) -> str:
        return f"<Database {self._path or 'in memory'} {'open' if self._connection else 'closed'}>"

    def open(self) -> None:
        """Opens the file, made if it is missing (mode 0600), and brings its schema up to date."""
        with self._translated():
            self._open()

    def close(self) -> None:
        """Lets go of the file. The next use opens it again; what was in memory is gone."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # what was committed is safe, in the log if not in the file
                connection.close()

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `query`, which sees what is committed."""
        with self._translated():
            return query(self._usable())

    def commit(self, writes: Sequence[Callable[[sqlite3.Connection], T]]) -> list[T | Exception]:
        """Runs `writes` in one transaction and commits it: the result or the error of each, in their order.

        The error of one undoes that one only. Raises StorageError if nothing was committed.
        """
        with self._translated():
            db = self._usable()
            db.execute("BEGIN IMMEDIATE")
            try:
                outcomes = [self._attempt(db, write) for write in writes]
                db.execute("COMMIT")
            except BaseException:
                self._roll_back(db)
                raise
        return outcomes

    def empty_log(self) -> None:
        """Writes what stands in the log into the database and empties the log: what was deleted stands nowhere then."""
        with self._translated():
            self._usable().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _attempt(self, db: sqlite3.Connection, write: Callable[[sqlite3.Connection], T]) -> T | Exception:
        db.execute("SAVEPOINT one")
        try:
            outcome: T | Exception = write(db)
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not isinstance(error, _ITS_OWN):
                raise
            db.execute("ROLLBACK TO one")
            outcome = faults.explain(error, self.where) if isinstance(error, sqlite3.Error) else error
        db.execute("RELEASE one")
        return outcome

    @staticmethod
    def _roll_back(db: sqlite3.Connection) -> None:
        if db.in_transaction:
            with suppress(sqlite3.Error):  # the error that led here says more
                db.execute("ROLLBACK")

    def _usable(self) -> sqlite3.Connection:
        if self._connection is not None and self._moved():
            with suppress(sqlite3.Error):  # takes along what stood in the log only, which stays behind
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self.close()
        return self._connection or self._open()

    def _open(self) -> sqlite3.Connection:
        if self._path is not None:
            self._inode = self._touch(self._path)
        connection = sqlite3.connect(self._path or ":memory:", timeout=_BUSY_TIMEOUT, isolation_level=None)
        try:
            # before anything is written, so that a file which is not ours stays as it is
            schema.check(connection, self.where)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")  # what is deleted is written over
            schema.migrate(connection, self.where)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _touch(self, path: Path) -> tuple[int, int]:
        """Makes the file if it is missing, for its owner only; SQLite gives its companions the same mode.

        Raises StorageError for what SQLite would take for an empty database and write over.
        """
        log = path.with_name(f"{path.name}-wal")
        if _size(log) and not _size(path):
            raise StorageError(
                f"{self.where} is missing or empty, but its log {log.name} is there",
                advice="put the file back beside its log, or move the log away as well",
            )
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
        try:
            found = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if 0 < found.st_size < _SMALLEST:
            raise StorageError(f"{self.where} is damaged (only {found.st_size} bytes)", advice=faults.DAMAGED)
        return found.st_dev, found.st_ino

    def _moved(self) -> bool:
        """Whether the open file is no longer the one at its path; what is written to it would be lost."""
        if self._path is None:
            return False
        try:
            found = self._path.stat()
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self._inode

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise faults.explain(error, self.where) from error
        except sqlite3.Error as error:
            if self._path is not None and faults.loses_connection(error):
                self.close()
            raise faults.explain(error, self.where) from error


def _size(path: Path) -> int:
    """Of the file in bytes, 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
