"""The command line's root: global options, commands imported when they are run, errors in one line.

What every command shares is decided here: exit codes, `FUSION_DEBUG`, Ctrl-C, a pipe that closes early.
Nothing but click may be imported at the top of this file; `fusionctl --help` takes as long as that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from fusionctl.invocation import Invocation

COMMANDS: dict[str, str] = {
    "start": "Start the daemon and wait until it is ready.",
    "stop": "Drain and stop the daemon.",
    "reload": "Read the configuration again.",
    "restart": "Replace one actor, or all, without losing work.",
    "health": "Show each process of the tree.",
    "kill": "Kill an actor and measure its recovery.",
    "drill": "Kill actors at random under load; count what was lost.",
    "events": "Show what happened: deaths, replacements, faults.",
    "logs": "Show what the actors wrote.",
    "chat": "Ask one question.",
    "interactive": "Hold a conversation.",
    "batch": "Answer a file of prompts.",
    "batches": "List, watch, cancel batch jobs; fetch their results.",
    "agents": "Have agents do tasks; look into their runs.",
    "tools": "List and call the tools that agents use.",
    "mcp": "List MCP servers; call their tools.",
    "sessions": "List, read, search, delete conversations.",
    "config": "Show, check or begin the configuration.",
    "models": "List, fetch or add models.",
    "doctor": "Look for what is wrong, and say what to do.",
    "service": "Install the daemon as a service of systemd.",
    "completion": "Print the completion script for a shell.",
}
"""Every command with its line in `--help`; `fusionctl.commands.NAME` holds a click command called NAME."""


class LazyGroup(click.Group):
    """A group whose commands are known by name and imported only when one is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 — click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"fusionctl.commands.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, 1)
            advice = f"did you mean '{near[0]}'?" if near else "see: fusionctl --help"
            raise click.UsageError(f"there is no command '{args[0]}' — {advice}", ctx)
        return super().resolve_command(ctx, args)


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from fusiond import __version__

        click.echo(f"fusionctl {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog='Example: fusionctl chat "What is the capital of France?"',
)
@click.option("--home", metavar="DIR", help="Everything below DIR: configuration, state, models, sockets.")
@click.option(
    "--no-autostart",
    is_flag=True,
    envvar="FUSION_NO_AUTOSTART",
    help="Exit 4 where a daemon would be started. [env: FUSION_NO_AUTOSTART]",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version.",
)
@click.pass_context
def cli(ctx: click.Context, home: str | None, no_autostart: bool) -> None:
    """Talk to fusiond, which keeps LLM work alive."""
    ctx.obj = Invocation(home, not no_autostart)


def main() -> NoReturn:
    """The program `fusionctl`."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Runs one command line; returns its exit code. Errors become one line on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character is no error
    try:
        if "_FUSIONCTL_COMPLETE" in os.environ:  # the shell asks what could come next
            cli.main(list(args), prog_name="fusionctl")
        with cli.make_context("fusionctl", list(args)) as context:
            result = cli.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.Exit as error:
        return error.exit_code
    except Exception as error:
        if os.environ.get("FUSION_DEBUG") == "1":
            raise
        return _report(error)
    except KeyboardInterrupt:
        return 130
    return int(result or 0)


def _report(error: Exception) -> int:
    """Says in one line what `error` means to the person; returns the exit code."""
    from fusiond.errors import FusionError

    if isinstance(error, BrokenPipeError):
        return _abandon_output()
    if isinstance(error, click.Abort):
        return 130
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return error.exit_code
    if isinstance(error, click.ClickException):
        text, code = _usage(error), error.exit_code
    elif isinstance(error, FusionError):
        text, code = str(error), error.exit_code
    elif isinstance(error, UnicodeEncodeError):
        text, code = "an argument has bytes that are no UTF-8 — write it in UTF-8", 2
    elif isinstance(error, OSError):
        text, code = _system(error), 77 if isinstance(error, PermissionError) else 1
    else:
        text = f"internal error, {type(error).__name__}: {error} — the traceback: FUSION_DEBUG=1 fusionctl …"
        code = 1
    try:
        click.echo(f"error: {' '.join(text.split())}", err=True)
    except BrokenPipeError:
        _abandon_output()
    return code


def _usage(error: click.ClickException) -> str:
    text = error.format_message().rstrip(".")
    if " — " in text or not isinstance(error, click.UsageError) or error.ctx is None:
        return text
    return f"{text} — see: {error.ctx.command_path} --help"


def _system(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error} — the system refused this"


def _abandon_output() -> int:
    """The reader of our output is gone; nothing more can be said to it. 141: as if SIGPIPE had ended us."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    return 141


if __name__ == "__main__":
    main()
