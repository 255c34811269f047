"""One call of a tool: arguments read and checked, the tool run, what it gives or raises turned into an outcome."""

from __future__ import annotations

import inspect
import traceback
from pathlib import Path
from typing import Any

import msgspec

from fusiond.protocol.tools import Content, ToolOutcome
from fusiond.tools.api import Tool, ToolResult
from fusiond.tools.validation import read_object

_OURS = str(Path(__file__).parents[1])


def check(tool: Tool, arguments: bytes) -> ToolOutcome | None:
    """What is wrong with the arguments, None if nothing is. Nothing is run but `validate`."""
    _, wrong = _read(tool, arguments)
    return wrong


def call(tool: Tool, arguments: bytes) -> ToolOutcome:
    """Runs the tool; whatever happens is an outcome, but for MemoryError: its process should not go on."""
    given, wrong = _read(tool, arguments)
    if wrong is not None:
        return wrong
    try:
        made = tool.execute(given)
        if inspect.isawaitable(made):
            import asyncio

            async def wait() -> Any:
                return await made

            made = asyncio.run(wait())
        return _outcome(made)
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # SystemExit too: a tool must not end its worker by it
        return ToolOutcome(kind="error", text=_words(error))


def _read(tool: Tool, arguments: bytes) -> tuple[dict[str, Any], ToolOutcome | None]:
    given, wrong = read_object(arguments)
    if wrong:
        return {}, ToolOutcome(kind="invalid", text=wrong)
    try:
        tool.validate(given)
    except Exception as error:
        return {}, ToolOutcome(kind="invalid", text=str(error) or type(error).__name__)
    return given, None


def _outcome(made: Any) -> ToolOutcome:
    if isinstance(made, ToolResult):
        content = [] if made.data is None else [Content(type="json", data=_json(made.data))]
        return ToolOutcome(kind="ok" if made.ok else "error", text=made.text, content=content)
    if made is None:
        return ToolOutcome(kind="ok", text="done")
    return ToolOutcome(kind="ok", text=made if isinstance(made, str) else _json(made))


def _json(value: Any) -> str:
    """As JSON; what JSON cannot say as its text."""
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _words(error: BaseException) -> str:
    """Type, text and the user's own line that raised it."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_OURS, "<frozen"))
    ]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
