"""`fusionctl kill`: kill an actor and see how long nobody served."""

from __future__ import annotations

import signal as signals
from typing import Literal

import click
import msgspec

from fusionctl import orders, output, render
from fusionctl.arguments import ACTOR
from fusionctl.invocation import Invocation
from fusiond.protocol.control import Kill, KillReport


@click.command(epilog="Example: fusionctl kill llm.0 --signal STOP")
@click.argument("actor", type=ACTOR)
@click.option("--signal", metavar="NAME", default="KILL", help="KILL, STOP, SEGV, TERM, …  [default: KILL]")
@click.option(
    "--fault", type=click.Choice(["block", "hold-lock"]), help="Instead: make the actor hang this way."
)
@click.option("--json", "as_json", is_flag=True, help="The measurement as JSON.")
@click.pass_obj
def kill(
    invocation: Invocation,
    actor: str,
    signal: str,
    fault: Literal["block", "hold-lock"] | None,
    as_json: bool,
) -> None:
    """Kill ACTOR and measure, from the signal on, when its death was noticed and its replacement was ready.

    `block` blocks the actor's event loop; `hold-lock` holds its interpreter lock in native code.
    """
    order = Kill(actor, signal_name(signal), fault)
    daemon = orders.reach(invocation, start=False)
    report = orders.give(daemon, "kill", msgspec.msgpack.encode(order), KillReport)
    if as_json:
        output.put_json(report)
    else:
        output.put(render.recovery(report, output.painter()))


def signal_name(given: str) -> str:
    """The signal's name without SIG; it may be given with it, in small letters, or as a number."""
    known = {signal.name.removeprefix("SIG"): signal.value for signal in signals.Signals}
    wanted = given.upper().removeprefix("SIG")
    if wanted.isdecimal():
        wanted = next((name for name, number in known.items() if number == int(wanted)), wanted)
    if wanted not in known:
        from difflib import get_close_matches

        near = get_close_matches(wanted, known, 1)
        advice = f"did you mean {near[0]}?" if near else "for example KILL, STOP, SEGV, TERM"
        raise click.UsageError(f"there is no signal '{given}' — {advice}")
    return wanted
