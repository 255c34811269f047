"""Two homes of a daemon: an empty one, and one whose database holds a finished job of many items."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fusiond.protocol.batches import BeginJob, JobSettings
from fusiond.storage import batches, schema
from tests.bench.tree import REMOTE

_NOW = "2026-01-01T00:00:00.000Z"
_BODY = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "It is as you say."}}]}'


@contextmanager
def with_history(items: int) -> Iterator[tuple[Path, Path]]:
    """The empty home and the full one."""
    folder = Path(tempfile.mkdtemp(prefix="fusion-bench-"))
    try:
        homes = folder / "e", folder / "f"
        for home in homes:
            (home / "state").mkdir(parents=True, mode=0o700)
            (home / "config.toml").write_text(REMOTE)
        _fill(homes[1] / "state" / "fusion.db", items)
        yield homes
    finally:
        shutil.rmtree(folder)


def _fill(database: Path, items: int) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        schema.migrate(db, str(database))
        job = batches.begin(db, BeginJob(key="k", source="f", total=items, settings=JobSettings()), _NOW)
        (n,) = db.execute("SELECT n FROM batches WHERE id = ?", (job.id,)).fetchone()
        db.execute("BEGIN")
        db.executemany(
            "INSERT INTO batch_items VALUES (?, ?, '/v1/chat/completions', ?)",
            ((n << 32 | i, f"line-{i}", b'{"messages": []}') for i in range(items)),
        )
        db.executemany(
            "INSERT INTO batch_results VALUES (?, 1, 20.0, 200, '', ?, '', '')",
            ((n << 32 | i, _BODY) for i in range(items)),
        )
        db.execute(
            "UPDATE batches SET state = 'completed', received = total, next = total, completed = total WHERE n = ?",
            (n,),
        )
        db.execute("COMMIT")
