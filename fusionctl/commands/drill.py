"""`fusionctl drill`: kill and stop actors at random, under load, and count what was lost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from fusionctl import orders, output
from fusionctl.invocation import Invocation, notice
from fusiond.errors import Busy, FusionError

if TYPE_CHECKING:
    from fusionctl.client import Client
    from fusionctl.drilling import Drill, DrillReport
    from fusiond.protocol.control import ActorHealth, Health

_FAILURES_SHOWN = 3
_LOOKS, _BETWEEN_LOOKS = (
    6,
    0.1,
)  # an actor says what it has in flight with its heartbeat only: that may be over


@click.command(epilog="Example: fusionctl drill --echo --seconds 10")
@click.option("--seconds", type=click.IntRange(min=1), default=30, show_default=True, help="How long.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="Of an earlier drill: the same actors suffer the same faults again.",
)
@click.option("--echo", is_flag=True, help="Ask no model: echoes only, which cost nothing.")
@click.option("--force", is_flag=True, help="Also while others' work is in flight.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@click.pass_obj
def drill(
    invocation: Invocation, seconds: int, seed: int | None, echo: bool, force: bool, as_json: bool
) -> int:
    """Kill and stop actors at random while requests are under way, and count what was lost.

    A fault every 0.3 to 1 seconds: KILL mostly, TERM, SEGV, STOP, and a blocked event loop. Any actor may be
    hit, never the supervisor itself.

    The load is a few conversations with the configured model, in sessions that are deleted afterwards; each
    answer is compared with what was recorded. With --echo it is round trips through the router to each
    service: each must come back as it was, once. Echoes reach no model and record nothing, and are never resumed.

    Exits 0 only if nothing was lost, doubled or failed and no process was left behind, else 1; 75 if others'
    work is in flight. Ctrl-C ends it with the table so far.
    """
    import asyncio
    import secrets

    from fusionctl.autostart import settled

    settled(orders.reach(invocation, start=True))
    seed = secrets.randbits(32) if seed is None else seed
    runner, report = asyncio.run(_run(invocation, seed, seconds, echo, force))
    if as_json:
        output.put_json(report)
    else:
        from fusionctl.drill_table import table

        output.put(table(report, output.painter()))
    if runner.interrupted:
        return 130
    if runner.away:
        output.complain(f"not ready again: {', '.join(runner.away)} — see: fusionctl health")
        return 1
    return 0 if report.passed else 1


def _service(actor: ActorHealth) -> str:
    """An MCP server is one of its own."""
    return actor.name if actor.kind == "mcp" else actor.kind


async def _run(
    invocation: Invocation, seed: int, seconds: int, echo: bool, force: bool
) -> tuple[Drill, DrillReport]:
    from fusionctl.client import Client
    from fusionctl.drilling import Drill, plan
    from fusionctl.loads import Conversations, Echoes, Load

    # nothing starts the daemon again here: its end would be a finding
    async with Client(invocation.home, autostart=False) as client:
        health = await _permitted(client, force=force)
        running = [actor for actor in health.actors if actor.state != "stopped"]
        load: Load
        if echo:
            serving = [actor for actor in running if actor.kind not in ("forkserver", "router")]
            load = Echoes(client, sorted({_service(actor) for actor in serving}))
        else:
            load = Conversations(client, invocation.home)
        runner = Drill(client, load, plan(seed, seconds, [actor.name for actor in running]))
        notice(f"seed {seed}")
        with _progress(seconds) as tell:
            report = await runner.run(seed, seconds, tell)
        for told in list(dict.fromkeys(load.failures))[:_FAILURES_SHOWN]:
            notice(f"a request failed: {told}")
        return runner, report


async def _permitted(client: Client, *, force: bool) -> Health:
    """The tree as it is. Raises what speaks against a drill on it."""
    import asyncio

    from fusionctl.drilling import away

    for _ in range(_LOOKS):
        health = await client.health()
        if names := away(health):
            raise FusionError(f"not ready: {', '.join(names)}", advice="see: fusionctl health")
        busy = [f"{actor.name} ({actor.in_flight})" for actor in health.actors if actor.in_flight]
        if force or not busy:
            return health
        await asyncio.sleep(_BETWEEN_LOOKS)
    raise Busy(
        f"work is in flight: {', '.join(busy)}", advice="wait until it is done, or drill anyway: --force"
    )


@contextmanager
def _progress(seconds: int) -> Iterator[Callable[[float, int, int], None]]:
    """One line on the terminal that standard error is; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console

    with Console(stderr=True).status("drilling") as status:
        yield lambda at, faults, completed: status.update(
            f"{min(at, seconds):.0f} of {seconds} s  faults {faults}  requests completed {completed:,}"
        )
