"""`fusiond`: the daemon in the foreground."""

from __future__ import annotations

import os
import sys
import time

from fusiond.errors import FusionError

_PAUSE = 2.0  # seconds


def main() -> None:
    """The entry point: an error is one line and its exit code.

    Every start of a daemon but a person's takes the short way: the parser of options costs it 20 ms, and the tree 2 MB.
    """
    try:
        match sys.argv[1:]:
            case []:
                run(None)
            case ["--home", home]:
                run(home)
            case _:
                _parse()
    except FusionError as error:
        if os.environ.get("FUSION_DEBUG") == "1":
            raise
        sys.stderr.write(f"fusiond: {error}\n")
        _tell_systemd(str(error))
        sys.exit(error.exit_code)


def run(home: str | None) -> None:
    """Supervises until SIGTERM or SIGINT; `home`: what `--home` says."""
    from fusiond import paths as places
    from fusiond.runtime import anew, child, processes

    env = dict(os.environ)
    paths = places.resolve(home, env)
    child.title(f"supervisor {paths.home or ''}".rstrip())
    # before there is a secret in our memory, for it is the fork server's too; and what either of us imports further is
    # imported at the same time
    forkserver = None if anew.will_seal(env) else processes.fork_forkserver(f"ipc://{paths.actors_socket}")

    from fusiond import daemon

    sys.exit(daemon.main(paths, env, forkserver))


def _parse() -> None:
    import click

    from fusiond import __version__

    @click.command(context_settings={"help_option_names": ["-h", "--help"]})
    @click.version_option(__version__, prog_name="fusiond")
    @click.option("--home", metavar="DIR", help="Keep everything below this folder (FUSION_HOME).")
    def command(home: str | None) -> None:
        """Runs Fusion's daemon in the foreground until SIGTERM or Ctrl-C.

        SIGHUP reloads the configuration. Usually nobody calls this by hand: `fusionctl start` does, and so does
        systemd.

        Example: fusiond --home ~/fusion
        """
        run(home)

    command(prog_name="fusiond")


def _tell_systemd(why: str) -> None:
    """Where it is to start us again: what is wrong, and not too often; the configuration may be mended meanwhile."""
    if "NOTIFY_SOCKET" in os.environ:
        from fusiond.runtime.notify import Notifier

        Notifier(os.environ).status(why)
        time.sleep(_PAUSE)


if __name__ == "__main__":
    main()
