"""Commands in a pseudo-terminal, as a person sees them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pexpect

from tests.tree import Tree


@contextmanager
def terminal(tree: Tree, *args: str, columns: int = 100, rows: int = 30) -> Iterator[Any]:
    """`fusionctl ARGS` on a terminal of its own; closed, whatever happens."""
    child = pexpect.spawn(
        tree.command[0],
        [*tree.command[1:], *args],
        env=tree.environment,
        cwd=str(tree.home),
        encoding="utf-8",
        timeout=20,
        dimensions=(rows, columns),
    )
    try:
        yield child
    finally:
        child.close(force=True)


def ended(child: Any) -> int:
    """Waits for the command's end; returns its exit code."""
    child.expect(pexpect.EOF)
    child.wait()
    return int(child.exitstatus)
