"""`fusionctl completion SHELL`: the script that makes the Tab key work."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(epilog='Example: eval "$(fusionctl completion bash)"   in ~/.bashrc')
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL."""
    from fusionctl.cli import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click cannot complete for {shell}")
    click.echo(kind(cli, {}, "fusionctl", "_FUSIONCTL_COMPLETE").source())
