"""What the README shows was run: its example for programs is run here."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.providers.embedded import models_dir
from tests.tree import ROOT, Tree


def blocks(readme: str, language: str, beginning: str) -> list[str]:
    found: list[str] = re.findall(rf"```{language}\n({re.escape(beginning)}.*?)```", readme, re.DOTALL)
    return found


def test_each_way_to_write_a_tool_works_as_shown(tree: Tree) -> None:
    readme = (ROOT / "README.md").read_text()
    ways = blocks(readme, "python", "# my_tools.py\n")
    assert [len(way.split("\n\n", 1)[-1].strip().splitlines()) < 10 for way in ways] == [True] * 3
    (tree.home / "my_tools.py").write_text("\n".join(ways))
    (config,) = blocks(readme, "toml", "[tools]")
    server = f'command = "{Path(sys.executable).parent}/mcp-server-time"'
    nowhere = 'model = "lab/none"\n[providers.lab]\nbase_url = "http://127.0.0.1:9/v1"\n'
    tree.configure(nowhere + config.replace('command = "mcp-server-time"', server))
    (shown,) = blocks(readme, "console", "$ fusionctl tools call")
    for command in re.split(r"^\$ fusionctl ", shown, flags=re.MULTILINE)[1:]:
        line, _, expected = command.partition("\n")
        words = shlex.split(line.removesuffix(" | grep diff"))
        done = tree.run(*words)
        assert expected.strip() in done.stdout + done.stderr
    assert tree.ok("tools", "call", "dice", '{"sides": 6}') == "a die with 6 sides fell on 3\n"
    assert "reporter" in tree.ok("agents", "list")


@pytest.mark.model
def test_the_example_for_programs_runs(tree: Tree, home: Path) -> None:
    tree.environment["FUSION_MODELS"] = str(models_dir())
    readme = (ROOT / "README.md").read_text()
    (example,) = blocks(readme, "python", "import asyncio")
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
