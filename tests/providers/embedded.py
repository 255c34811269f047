"""The embedded model's file for tests: `FUSION_TEST_MODEL` names it, else it is fetched once and kept."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

import pytest

from fusiond import models
from fusiond.errors import ProviderDown


@functools.cache
def models_dir() -> Path:
    """A folder of models that holds the embedded one; skips the test where it cannot be had."""
    given = os.environ.get("FUSION_TEST_MODEL")
    if given:
        folder = Path(tempfile.gettempdir()) / f"fusion-test-models-{os.getuid()}-linked"
        folder.mkdir(mode=0o700, exist_ok=True)
        link = folder / models.SMOLLM2.file
        link.unlink(missing_ok=True)
        link.symlink_to(Path(given).resolve())
        return folder
    folder = Path(tempfile.gettempdir()) / f"fusion-test-models-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        models.pull(folder)
    except ProviderDown as error:
        pytest.skip(f"the embedded model cannot be fetched: {error}")
    return folder


def model_file() -> Path:
    return models.locate(models_dir(), models.SMOLLM2.name)
