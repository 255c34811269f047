"""`fusionctl doctor`: what is wrong here, and what to do."""

from __future__ import annotations

import click

from fusionctl import output
from fusionctl.invocation import Invocation


@click.command(epilog="Example: fusionctl doctor --json | jq '.[] | select(.ok | not)'")
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON.")
@click.pass_obj
def doctor(invocation: Invocation, as_json: bool) -> int:
    """Look for what is wrong, and say what to do about it.

    Looks at files and modes, the daemon, the configuration, the model and its provider, the database and
    the limits of the system. Never starts a daemon and changes nothing. Exits 0 if all is well, 1 otherwise.
    """
    from fusionctl.doctor.examine import examine
    from fusionctl.doctor.finding import lines

    found = examine(invocation.home)
    if as_json:
        output.put_json(found)
    else:
        output.put(lines(found, output.painter()))
    return 0 if all(finding.ok for finding in found) else 1
