"""Fetches the embedded model when a question turns out to need it."""

from __future__ import annotations

from pathlib import Path

from fusionctl import homes
from fusionctl.commands.models import shown
from fusionctl.link import off_loop
from fusiond.errors import Cancelled
from fusiond.models import SMOLLM2, pull


async def fetch_embedded_model(home: str | None) -> Path:
    """The model's file, fetched if need be, its progress on standard error. Cancelling ends the download."""
    models = homes.spoken_to(home).models
    given_up = False

    with shown(f"local/{SMOLLM2.name}") as show:

        def progress(done: int, total: int | None) -> None:
            if given_up:
                raise Cancelled("cancelled")
            show(done, total)

        try:
            return await off_loop(lambda: pull(models, progress))
        finally:
            given_up = True
