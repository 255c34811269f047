"""Signals to processes of a tree, at random."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress

from fusionctl.client import Client
from fusiond.errors import Unreachable

FAULTS = [signal.SIGKILL] * 4 + [signal.SIGTERM] * 2 + [signal.SIGSTOP]
SUPERVISOR = 0.05
"""How often it is the supervisor's turn, once it has lived for ..."""

LIVES_S = 6.0
"""... so long: killed each time it starts, nothing could ever be done."""


async def harm(client: Client, chance: random.Random, going: Callable[[], bool]) -> int:
    """Sends a signal every 50 to 400 ms for as long as it is `going`; returns how many."""
    count = 0
    while going():
        await asyncio.sleep(chance.uniform(0.05, 0.4))
        try:
            health = await client.health()
        except Unreachable:
            continue  # between two daemons: whoever asks next starts one
        pids = [actor.pid for actor in health.actors if actor.pid]
        if chance.random() < SUPERVISOR and health.supervisor.uptime_s > LIVES_S:
            pids = [health.supervisor.pid]
        if not pids:
            continue  # it starts
        pid = chance.choice(pids)
        with suppress(ProcessLookupError):
            os.kill(pid, chance.choice(FAULTS))
            count += 1
    return count
