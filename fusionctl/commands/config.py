"""`fusionctl config`: what is configured, whether it is right, and where."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import click

from fusionctl import homes, output
from fusionctl.invocation import Invocation
from fusiond.errors import ConfigError, Denied, FusionError
from fusiond.paths import resolve


@click.group(epilog="Example: fusionctl config check")
def config() -> None:
    """Show, check or begin the configuration."""


@config.command(epilog="Example: fusionctl config show --json | jq .supervisor")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def show(invocation: Invocation, as_json: bool) -> None:
    """Show what is in effect.

    It is what a daemon started from here would have: the file, the environment and the defaults together.
    Keys are never shown, and what may be secret appears as ***.
    """
    from fusiond.config import load, shown, to_toml

    file = homes.spoken_to(invocation.home).config_file
    tables = shown(load(file))
    if as_json:
        output.put_json(tables)
        return
    origin = f"# from {file}" if file.exists() else f"# {file} does not exist: these are the defaults"
    click.echo(f"{origin}\n{to_toml(tables)}", nl=False)


@config.command(epilog="Example: fusionctl config check && fusionctl reload")
@click.option("--json", "as_json", is_flag=True, help="The problems as JSON.")
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> None:
    """Say everything that is wrong with it.

    One line for each problem, and exit code 78 if there is any. What the environment adds is checked too,
    and whether the key files can be read.
    """
    from fusiond import config as configuration

    file = homes.spoken_to(ctx.obj.home).config_file
    problems = configuration.check(configuration.read_text(file))
    if as_json:
        output.put_json(problems)
    for problem in () if as_json else problems:
        click.echo(f"{file}{' ' if problem.line else ': '}{problem}", err=True)
    if problems:
        ctx.exit(ConfigError.exit_code)
    configuration.resolve_keys(configuration.load(file))
    if not as_json:
        click.echo(f"{file}: ok" if file.exists() else f"{file} does not exist: the defaults apply")


@config.command(epilog='Example: $EDITOR "$(fusionctl config path)"')
@click.pass_obj
def path(invocation: Invocation) -> None:
    """Print where the file is, or would be."""
    click.echo(homes.spoken_to(invocation.home).config_file)


@config.command(epilog="Example: fusionctl config init && fusionctl config show")
@click.option("--force", is_flag=True, help="Replace the file that is there.")
@click.pass_obj
def init(invocation: Invocation, force: bool) -> None:
    """Write a file that explains every key and changes nothing."""
    from fusiond.config import DEFAULT_TOML

    file = resolve(invocation.home).config_file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _write(file, DEFAULT_TOML, replace=force)
    except FileExistsError:
        if not file.exists():
            raise ConfigError(
                f"{file.parent} is not a folder", advice="move it away, or use another --home"
            ) from None
        raise FusionError(f"{file} is there already", advice="--force replaces it") from None
    except PermissionError:
        raise Denied(f"{file} may not be written", advice="use another --home or FUSION_CONFIG") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from None
    click.echo(f"wrote {file}")


def _write(file: Path, text: str, *, replace: bool) -> None:
    """Puts `text` at `file`, whole; raises FileExistsError if something is there and not to be replaced."""
    file = file.resolve()
    file.touch(exist_ok=replace)  # claims the name, and says which mode a file of this user has
    handle, new = tempfile.mkstemp(dir=file.parent, prefix=".config-")
    try:
        with open(handle, "w", encoding="utf-8") as stream:  # noqa: PTH123  (a handle, not a path)
            stream.write(text)
            stream.flush()
            os.fsync(handle)
        shutil.copymode(file, new)
        Path(new).replace(file)
    finally:
        Path(new).unlink(missing_ok=True)
