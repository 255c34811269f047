"""Arguments that several commands take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class ActorName(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """An actor's name; the Tab key offers those of the running daemon."""

    name = "actor"

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 — click's signature
        incomplete: str,
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from fusionctl.orders import actor_names

        home = ctx.find_root().params.get("home")
        return [CompletionItem(name) for name in actor_names(home) if name.startswith(incomplete)]


ACTOR = ActorName()
