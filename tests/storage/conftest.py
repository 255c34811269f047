from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from fusiond.storage.database import Database


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """An empty database in memory, with its schema."""
    database = Database("")
    yield database.read(lambda connection: connection)
    database.close()
