"""One call of a built-in tool in a process of its own, as a worker makes it: `python -m tests.tools.one_call`.

Reads JSON `[settings, workspace, name, arguments]`, writes the outcome as JSON.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from fusiond.config.schema import ToolsSettings
from fusiond.protocol.tools import ToolOutcome
from fusiond.tools.builtin import built_in
from fusiond.tools.calling import call
from fusiond.tools.namespaces import adopt_orphans
from fusiond.tools.settings import ToolsConfig
from tests.tree import ROOT


def one_call(
    settings: ToolsSettings,
    workspace: Path,
    name: str,
    environment: Mapping[str, str] | None = None,
    **arguments: Any,
) -> ToolOutcome:
    """What becomes of it."""
    asked = msgspec.json.encode([settings, str(workspace), name, arguments])
    done = subprocess.run(
        [sys.executable, "-m", "tests.tools.one_call"],
        input=asked,
        capture_output=True,
        cwd=ROOT,
        env=environment,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.decode(done.stdout, type=ToolOutcome)


def main() -> None:
    adopt_orphans()
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=tuple[ToolsSettings, str, str, dict[str, Any]])
    settings, workspace, name, arguments = asked
    config = ToolsConfig(settings=settings, folder=workspace, workspace=workspace, run_dir=workspace)
    tools = {tool.metadata().name: tool for tool in built_in(config)}
    sys.stdout.buffer.write(msgspec.json.encode(call(tools[name], msgspec.json.encode(arguments))))


if __name__ == "__main__":
    main()
