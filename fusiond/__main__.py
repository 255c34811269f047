"""`fusiond`: the daemon in the foreground."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

from fusiond import __version__
from fusiond.errors import FusionError

_PAUSE = 2.0  # seconds


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fusiond")
@click.option(
    "--home", type=click.Path(path_type=Path), help="Keep everything below this folder (FUSION_HOME)."
)
def command(home: Path | None) -> None:
    """Runs Fusion's daemon in the foreground until SIGTERM or Ctrl-C.

    SIGHUP reloads the configuration. Usually nobody calls this by hand: `fusionctl start` does, and so does systemd.

    Example: fusiond --home ~/fusion
    """
    from fusiond import paths as places
    from fusiond.runtime import anew, child, processes

    env = dict(os.environ)
    paths = places.resolve(None if home is None else str(home), env)
    child.title(f"supervisor {paths.home or ''}".rstrip())
    # before there is a secret in our memory, for it is the fork server's too; and what either of us imports further is
    # imported at the same time
    forkserver = None if anew.will_seal(env) else processes.fork_forkserver(f"ipc://{paths.actors_socket}")

    from fusiond import daemon

    sys.exit(daemon.main(paths, env, forkserver))


def main() -> None:
    """The entry point: an error is one line and its exit code."""
    try:
        command(prog_name="fusiond")
    except FusionError as error:
        if os.environ.get("FUSION_DEBUG") == "1":
            raise
        click.echo(f"fusiond: {error}", err=True)
        _tell_systemd(str(error))
        sys.exit(error.exit_code)


def _tell_systemd(why: str) -> None:
    """Where it is to start us again: what is wrong, and not too often; the configuration may be mended meanwhile."""
    if "NOTIFY_SOCKET" in os.environ:
        from fusiond.runtime.notify import Notifier

        Notifier(os.environ).status(why)
        time.sleep(_PAUSE)


if __name__ == "__main__":
    main()
