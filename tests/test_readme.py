"""What the README shows was run: its example for programs is run here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.providers.embedded import models_dir
from tests.tree import ROOT, Tree


@pytest.mark.model
def test_the_example_for_programs_runs(tree: Tree, home: Path) -> None:
    tree.environment["FUSION_MODELS"] = str(models_dir())
    readme = (ROOT / "README.md").read_text()
    (example,) = re.findall(r"```python\n(import asyncio.*?)```", readme, re.DOTALL)
    script = home / "example.py"
    script.write_text(example)
    done = subprocess.run(
        [sys.executable, script],
        env=tree.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
    assert "healthy" in done.stdout
