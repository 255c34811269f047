"""The default model: known, and if it runs here, its file and the library that runs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from hashlib import file_digest
from pathlib import Path

from fusionctl.doctor.case import Case
from fusionctl.doctor.finding import Finding
from fusionctl.render import size
from fusiond import models
from fusiond.config import LOCAL
from fusiond.errors import ModelMissing
from fusiond.models.registry import PINNED

CHECK = "model"
_IMPORT_LIMIT = 60.0  # seconds


def check(case: Case) -> Iterator[Finding]:
    """Which model is asked where none is named, and whether it can be."""
    if case.config is None:
        advice = "" if case.foreign else "correct it first"
        yield Finding(CHECK, case.foreign, "not looked at: there is no configuration to go by", advice)
        return
    provider, _, name = case.config.model.partition("/")
    if provider != LOCAL:
        yield Finding(CHECK, True, f"{case.config.model}, of provider {provider}")
        return
    yield _file(case, name)
    yield _library()


def _file(case: Case, name: str) -> Finding:
    """The file of a model that runs here. Raises what `fusiond.models.locate` raises for one that cannot be had."""
    folder, pinned = case.paths.models, PINNED.get(name)
    pull = case.command("models pull")
    try:
        path = models.locate(folder, name)
    except ModelMissing as error:
        if pinned is not None and (folder / pinned.file).exists():
            return Finding(CHECK, False, error.message, pull)
        return Finding(CHECK, True, error.message, f"the first chat fetches it, or now: {pull}")
    if pinned is not None and _sha256(path) != pinned.sha256:
        return Finding(CHECK, False, f"{path} is damaged: its SHA-256 is not {pinned.sha256}", pull)
    whole = ", SHA-256 right" if pinned is not None else ""
    return Finding(CHECK, True, f"local/{name}: {path}, {size(path.stat().st_size)}{whole}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _library() -> Finding:
    """Imports it in a process of its own: on a processor that it was not built for it would end ours."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", "import xllamacpp"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=_IMPORT_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding(
            CHECK, False, f"xllamacpp does not load within {_IMPORT_LIMIT:g} s", "is the machine busy?"
        )
    if done.returncode == 0:
        return Finding(CHECK, True, "xllamacpp, which runs it, loads")
    if done.returncode < 0:
        words = f"it is killed by signal {-done.returncode}: not built for this processor?"
    else:
        words = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return Finding(
        CHECK,
        False,
        f"xllamacpp, which runs the model, does not load: {words}",
        "pip install 'fusion-runtime[local]'",
    )
