"""systemd, where it runs the daemon: which unit that is, and what systemd thinks of it."""

from __future__ import annotations

from typing import NamedTuple

from fusiond.paths import JOURNAL_MARKER, Paths


class Unit(NamedTuple):
    """`scope`: the options that lead systemctl to the system's manager or to the user's."""

    scope: list[str]
    name: str

    def systemctl(self, verb: str) -> list[str]:
        """The command line."""
        return ["systemctl", *self.scope, verb, self.name]

    def journalctl(self) -> list[str]:
        """The command line that shows what it logs."""
        return ["journalctl", *self.scope, f"--{'user-' if self.scope else ''}unit={self.name}"]

    def comes_back(self) -> bool:
        """It runs, or systemd is about to start it again."""
        import subprocess

        try:
            told = subprocess.run(self.systemctl("is-active"), capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return False
        return told.stdout.strip() in ("activating", "active", "reloading")


def unit(paths: Paths) -> Unit | None:
    """The unit that the daemon of this home runs in, or ran in last; None if it was no service."""
    try:
        *scope, name = (paths.logs / JOURNAL_MARKER).read_text().split()
    except (OSError, ValueError):  # there is none, or nothing in it: the disk was full
        return None
    return Unit(scope, name)
