"""All tools that are no MCP server's: built in, from modules of the user's, from installed packages."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from fusiond.config.naming import nearest
from fusiond.errors import NotFound
from fusiond.protocol.tools import MCP, ToolInfo
from fusiond.tools.api import Tool, ToolClass, ToolMetadata
from fusiond.tools.approval import approval_of
from fusiond.tools.builtin import built_in
from fusiond.tools.settings import ToolsConfig

log = logging.getLogger(__name__)

GROUP = "fusion.tools"
"""The entry points' group: each names a module with tools, or a tool."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Registry:
    """Tools by name. Of two of one name the first stays; what is wrong is listed, and hurts no other tool."""

    def __init__(self, config: ToolsConfig) -> None:
        self._config = config
        self._tools: dict[str, tuple[Tool, ToolMetadata, str]] = {}
        self._problems: list[ToolInfo] = []
        self._settings = dict(config.settings.configured)
        self._own = {"shell", "http"}  # their tables are the configuration's own

    def get(self, name: str) -> Tool:
        """Raises NotFound with the nearest name."""
        if name not in self._tools:
            near = nearest(name, self._tools)
            meant = f" (did you mean {near}?)" if near else ""
            raise NotFound(f'there is no tool "{name}"{meant}', advice="see: fusionctl tools list")
        return self._tools[name][0]

    def infos(self) -> list[ToolInfo]:
        """Every tool, and after them what is wrong."""
        return [self._info(name) for name in self._tools] + self._problems

    def _info(self, name: str) -> ToolInfo:
        _, metadata, source = self._tools[name]
        return ToolInfo(
            name=name,
            description=metadata.description,
            parameters=metadata.schema,
            source=source,
            approval=approval_of(self._config.settings.approval, name),
            repeatable=metadata.repeatable,
        )

    def add(self, tool: Tool | ToolClass, source: str) -> None:
        """One more; what is wrong with it becomes a problem."""
        name = getattr(tool, "name", type(tool).__name__)
        try:
            if isinstance(tool, ToolClass):
                tool = tool.configured(self._settings.pop(name, {}))
            metadata = tool.metadata()
            name = metadata.name
            _ = metadata.schema
        except Exception as error:
            log.warning("the tool %s of %s cannot be used", name, source, exc_info=error)
            self.problem(name, source, f"it cannot be used: {_words(error)}")
            return
        if not _NAME.fullmatch(name):
            self.problem(name, source, f"{name!r} is no name: up to 64 letters, digits, - and _")
        elif name in self._tools:
            other = self._tools[name][2]
            self.problem(name, source, f'the name is taken: {other} and {source} both have a tool "{name}"')
        else:
            self._tools[name] = (tool, metadata, source)

    def problem(self, name: str, source: str, why: str) -> None:
        self._problems.append(ToolInfo(name=name, description="", parameters={}, source=source, problem=why))

    def check_configuration(self) -> None:
        """What the configuration says of tools that there are not."""
        known = [*self._tools, *(info.name for info in self._problems)]
        for name in self._settings:
            if name in known:
                self.problem(name, "configuration", f"[tools.{name}]: this tool takes no settings")
                continue
            near = nearest(name, known)
            meant = f" (did you mean {near}?)" if near else ""
            self.problem(name, "configuration", f"[tools.{name}]: there is no such tool{meant}")
        for name in self._config.settings.approval:
            if name not in known and not name.startswith(MCP) and not set("*?[") & set(name):
                near = nearest(name, known)
                meant = f" (did you mean {near}?)" if near else ""
                self.problem(name, "configuration", f"tools.approval.{name}: there is no such tool{meant}")


def load(
    config: ToolsConfig,
    skip: Mapping[str, str] = MappingProxyType({}),
    loading: Callable[[str], None] = lambda _: None,
) -> Registry:
    """Imports everything that has tools.

    `skip`: sources that are not to be imported, and why. `loading` is told of each other source before it is.
    """
    registry = Registry(config)
    for tool in built_in(config):
        registry.add(tool, "built-in")
    sources: list[tuple[str, str, Callable[[], Any]]] = [
        (f"module {name}", name, partial(_import, name, Path(config.folder)))
        for name in config.settings.modules
    ]
    sources += [(f"entry point {point.name}", point.name, point.load) for point in entry_points(group=GROUP)]
    for source, name, find in sources:
        if source in skip:
            registry.problem(name, source, f"it cannot be loaded: {skip[source]}")
        else:
            loading(source)
            _gather(registry, source, name, find)
    registry.check_configuration()
    return registry


def _gather(registry: Registry, source: str, name: str, find: Callable[[], Any]) -> None:
    try:
        found = list(_tools_in(find()))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a module must not end us
        log.warning("%s cannot be loaded", source, exc_info=error)
        registry.problem(name, source, f"it cannot be loaded: {_words(error)}")
        return
    if not found:
        registry.problem(name, source, "it has no tools: objects of Tool, or what @tool decorates")
    for tool in found:
        registry.add(tool, source)


def _tools_in(found: Any) -> Iterator[Tool | ToolClass]:
    """The tools among a module's names, each once; or the one that was found instead of a module."""
    values = list(vars(found).values()) if isinstance(found, ModuleType) else [found]
    seen: set[int] = set()
    for value in values:
        if isinstance(value, Tool | ToolClass) and id(value) not in seen:
            seen.add(id(value))
            yield value
        elif _is_by_hand(value, found) and not any(isinstance(each, value) for each in values):
            yield value()  # a class of its own needs no object made by hand


def _is_by_hand(value: Any, module: Any) -> bool:
    """A subclass of Tool that is defined in this module."""
    inside = getattr(value, "__module__", None) == getattr(module, "__name__", "")
    return inside and isinstance(value, type) and issubclass(value, Tool)


def _import(name: str, folder: Path) -> ModuleType:
    """The module in `folder` if there is one, so that none of that name elsewhere is taken for it."""
    at = folder.joinpath(*name.split("."))
    if str(folder) not in sys.path:
        sys.path.append(
            str(folder)
        )  # last: what lies beside the configuration must not hide installed packages
    for file in (at.with_suffix(".py"), at / "__init__.py"):
        if "." not in name and file.is_file() and name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, file)
            if spec is None or spec.loader is None:
                break
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
            return module
    return importlib.import_module(name)


def _words(error: BaseException) -> str:
    """Type, text and place of an error."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = str(Path(__file__).parents[1])
    outside = [frame for frame in frames if not frame.filename.startswith((ours, "<frozen"))]
    place = f" ({Path(outside[-1].filename).name}:{outside[-1].lineno})" if outside else ""
    if isinstance(error, SyntaxError) and error.filename:
        place = f" ({Path(error.filename).name}:{error.lineno})"
    return f"{type(error).__name__}: {error}{place}"
