"""Reading, writing and listing files of the workspace."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any

from fusiond.tools.api import Tool, ToolMetadata, ToolResult
from fusiond.tools.builtin.beneath import Folder, Outside
from fusiond.tools.schema import ToolParameter

MOST_READ = 1_000_000
"""Bytes that one call reads at most; of what the model is told the middle is left out beyond the configured limit."""

MOST_WRITTEN = 16_000_000
_MOST_LISTED = 1000
_TEXT, _INT, _BOOL = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}


def _path(text: str, *, required: bool = True) -> ToolParameter:
    return ToolParameter(name="path", schema=_TEXT, description=text, required=required)


class FileTool(Tool):
    """`do(folder, **arguments)` does it. What goes wrong with a file is a result in words."""

    def __init__(self, workspace: str, metadata: ToolMetadata, do: Callable[..., str]) -> None:
        self._folder = Folder(workspace)
        self._metadata = metadata
        self._do = do

    def metadata(self) -> ToolMetadata:
        return self._metadata

    def execute(self, arguments: dict[str, Any]) -> ToolResult:
        try:
            return ToolResult(text=self._do(self._folder, **arguments))
        except Outside as error:
            return ToolResult(ok=False, text=str(error))
        except OSError as error:
            return ToolResult(ok=False, text=f"{arguments.get('path', '.')}: {error.strerror or error}")


_READ = ToolMetadata(
    name="read_file",
    description="Reads a text file of the workspace.",
    parameters=[
        _path("relative to the workspace"),
        ToolParameter(name="offset", schema=_INT, description="first byte, default 0", required=False),
        ToolParameter(
            name="limit",
            schema=_INT,
            description=f"bytes to read, at most {MOST_READ}",
            required=False,
        ),
    ],
    repeatable=True,
)


def _read(folder: Folder, path: str, offset: int = 0, limit: int = MOST_READ) -> str:
    with os.fdopen(folder.open_file(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(min(offset, size))
        data = file.read(min(limit, MOST_READ))
    text = data.decode("utf-8", "replace")
    end = min(offset, size) + len(data)
    return text if end >= size else f"{text}\n… {size - end:,} of {size:,} bytes follow, from offset {end}"


_WRITE = ToolMetadata(
    name="write_file",
    description="Writes a text file of the workspace, in the place of what is there.",
    parameters=[
        _path("relative to the workspace; missing folders are made"),
        ToolParameter(name="content", schema=_TEXT, description="the whole text"),
        ToolParameter(name="append", schema=_BOOL, description="add to the end instead", required=False),
    ],
)


def _write(folder: Folder, path: str, content: str, append: bool = False) -> str:
    data = content.encode("utf-8", "replace")
    if len(data) > MOST_WRITTEN:
        raise Outside(f"the text has {len(data):,} bytes, at most {MOST_WRITTEN:,} are written")
    before, mode = _before(folder, path, append)
    if len(before) + len(data) > MOST_WRITTEN:
        raise Outside(f"the file would have {len(before) + len(data):,} bytes, at most {MOST_WRITTEN:,}")
    with folder.parent(path, make=True) as (above, name):
        _replace(above, name, before + data, mode)
    return f"{path}: {len(data):,} bytes {'added' if append else 'written'}"


def _before(folder: Folder, path: str, append: bool) -> tuple[bytes, int]:
    """What is to stay of a file that is there, and its mode. Raises Outside if it is no file."""
    try:
        fd = folder.open_file(path)
    except FileNotFoundError:
        return b"", 0o666
    with os.fdopen(fd, "rb") as file:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        return (file.read(MOST_WRITTEN + 1) if append else b""), mode


def _replace(folder: int, name: str, data: bytes, mode: int) -> None:
    """Whole or not at all: written beside it, then renamed. A link of that name is replaced, never followed."""
    beside = f".{name[:80]}.{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(beside, flags, mode, dir_fd=folder)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside, dir_fd=folder)
        raise


_LIST = ToolMetadata(
    name="list_files",
    description="Lists the files of a folder of the workspace, with their sizes.",
    parameters=[
        _path("the folder, default the workspace itself", required=False),
        ToolParameter(
            name="pattern", schema=_TEXT, description="only names like this: *.txt", required=False
        ),
        ToolParameter(name="recursive", schema=_BOOL, description="folders below too", required=False),
    ],
    repeatable=True,
)


def _list(folder: Folder, path: str = ".", pattern: str = "*", recursive: bool = False) -> str:
    fd = folder.open(path, os.O_RDONLY | os.O_DIRECTORY)
    lines: list[str] = []
    more = 0
    for line in _walk(fd, "", pattern, recursive):
        if len(lines) < _MOST_LISTED:
            lines.append(line)
        else:
            more += 1
    if more:
        lines.append(f"… {more:,} more; give a folder or a pattern")
    return "\n".join(lines) or "nothing"


def _walk(fd: int, above: str, pattern: str, recursive: bool) -> Iterator[str]:
    """Lines for what is in the folder `fd`, which is closed. Links are shown, not followed."""
    try:
        with os.scandir(fd) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            name = f"{above}{entry.name}"
            if entry.is_symlink():
                if fnmatchcase(entry.name, pattern):
                    yield f"{name} -> {os.readlink(entry.name, dir_fd=fd)}"
            elif entry.is_dir(follow_symlinks=False):
                if fnmatchcase(entry.name, pattern):
                    yield f"{name}/"
                if recursive:
                    with suppress(OSError):
                        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                        below = os.open(entry.name, flags, dir_fd=fd)
                        yield from _walk(below, f"{name}/", pattern, recursive)
            elif fnmatchcase(entry.name, pattern):
                with suppress(FileNotFoundError):
                    info = os.stat(entry.name, dir_fd=fd, follow_symlinks=False)
                    kind = f"{info.st_size:,} bytes" if stat.S_ISREG(info.st_mode) else "no file"
                    yield f"{name}  {kind}"
    finally:
        os.close(fd)


def file_tools(workspace: str) -> list[Tool]:
    """The tools for the files below this folder."""
    return [
        FileTool(workspace, _READ, _read),
        FileTool(workspace, _WRITE, _write),
        FileTool(workspace, _LIST, _list),
    ]
