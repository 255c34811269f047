"""A connection to one incarnation of the daemon."""

from __future__ import annotations

import asyncio

import pytest

from fusionctl import autostart
from fusionctl.link import DaemonGone, Link
from tests.tree import Tree


async def test_whoever_still_waits_when_the_link_to_a_dead_daemon_is_closed_is_told_why(tree: Tree) -> None:
    """Two wait, the daemon dies, and the first to notice closes the link before the second has had its turn."""
    tree.start()
    daemon = autostart.reach(str(tree.home), autostart=False, notice=print)
    link = Link(daemon, watch=False, notice=print)
    waiting = asyncio.create_task(link.answer(link.control.request("supervisor", "events")))
    await link.control.request("supervisor", "ping")
    link._lose()
    await link.close()
    with pytest.raises(DaemonGone, match="has ended"):
        await waiting
