"""`fusionctl service`: the daemon as a service of systemd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from fusionctl import units
from fusionctl.invocation import Invocation, notice
from fusiond.errors import ConfigError, Denied, FusionError


@click.group(epilog="Example: sudo fusionctl service install && sudo systemctl enable --now fusiond")
def service() -> None:
    """Install the daemon as a service of systemd, or remove it."""


_user = click.option("--user", is_flag=True, help="Your own service, not the system's.")


@service.command(epilog="Example: fusionctl service install --dry-run")
@_user
@click.option("--dry-run", is_flag=True, help="Show what would be written and done; change nothing.")
@click.pass_obj
def install(_invocation: Invocation, user: bool, dry_run: bool) -> None:
    """Write the unit for this installation. Starting and enabling it is left to systemctl."""
    files, after = _plan(user, _program(user))
    if dry_run:
        for path, text in files:
            click.echo(f"# {path}\n{text}")
        for command in after:
            click.echo(f"# {' '.join(command)}")
        return
    _permit(user)
    for path, text in files:
        _write(path, text)
        click.echo(f"written: {path}")
    for command in after:
        _do(command)
    click.echo(f"now: systemctl {'--user ' if user else ''}enable --now fusiond")


@service.command(epilog="Example: sudo fusionctl service uninstall")
@_user
@click.option("--dry-run", is_flag=True, help="Show what would be removed; change nothing.")
@click.pass_obj
def uninstall(_invocation: Invocation, user: bool, dry_run: bool) -> None:
    """Stop the service and remove its files. What it has recorded stays, and so do account and configuration."""
    files, _ = _plan(user, "")
    present = [path for path, _ in files if path.exists()]
    if dry_run or not present:
        click.echo("\n".join(f"would remove: {path}" for path in present) or "nothing is installed")
        return
    _permit(user)
    manager, booted = _manager(user), Path("/run/systemd/system").exists()
    if booted:
        _do([*manager, "disable", "--now", "fusiond"])
    for path in present:
        path.unlink()
        click.echo(f"removed: {path}")
    if booted:
        _do([*manager, "daemon-reload"])


def _plan(user: bool, program: str) -> tuple[list[tuple[Path, str]], list[list[str]]]:
    """What to write, and what to run afterwards."""
    if user:
        home = Path.home()
        return [(home / path, text) for path, text in units.user(program)], [
            [*_manager(user), "daemon-reload"]
        ]
    files = [(Path(path), text) for path, text in units.system(program)]
    after = [["systemd-sysusers", str(files[0][0])], ["systemd-tmpfiles", "--create", str(files[1][0])]]
    return files, [*after, [*_manager(user), "daemon-reload"]]


def _manager(user: bool) -> list[str]:
    return ["systemctl", "--user"] if user else ["systemctl"]


def _program(user: bool) -> str:
    """`fusiond` of this installation, where the service can read it."""
    beside = Path(sys.executable).parent / "fusiond"
    found = str(beside) if beside.exists() else shutil.which("fusiond")
    if found is None:
        raise ConfigError(
            "there is no program fusiond beside this one", advice="install Fusion with pip first"
        )
    python = os.path.realpath(sys.executable)
    hidden = [path for path in (found, python) if path.startswith(("/root/", "/home/"))]
    if not user and hidden:
        raise ConfigError(
            f"{hidden[0]} is in a home folder, which the service may not read",
            advice="install Fusion elsewhere, say in /opt/fusion, or use --user",
        )
    return found


def _permit(user: bool) -> None:
    if not user and os.geteuid() != 0:
        raise Denied(
            "the system's service is for root to install and to remove", advice="use sudo, or --user"
        )


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_text(text)
        new.replace(path)
    except OSError as error:
        raise FusionError(f"{path} cannot be written: {error.strerror}") from None


def _do(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise FusionError(f"{command[0]} is not there: is this a system with systemd?") from None
    if done.returncode:
        why = (done.stderr or done.stdout).strip().splitlines()
        raise FusionError(f"{' '.join(command)} failed: {why[-1] if why else done.returncode}")
    if done.stderr.strip():
        notice(done.stderr.strip())
