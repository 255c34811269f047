"""From the SDK's words to ours. What a server says is data: it is cut, and without what a terminal would obey."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from fusiond.protocol.tools import (
    MCP,
    Approval,
    Content,
    McpPrompt,
    McpResource,
    ToolInfo,
    ToolOutcome,
)
from fusiond.tools.approval import approval_of
from fusiond.tools.worker import bounded

if TYPE_CHECKING:
    import mcp_types

_LONGEST_NAME = 128
_LONGEST_DESCRIPTION = 8_000
_LARGEST_SCHEMA = 64 * 1024
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def described(text: str | None) -> str:
    """A description: no longer than a model should have to read, nothing in it that moves a cursor."""
    clean = _CONTROLS.sub("", text or "").strip()
    return clean if len(clean) <= _LONGEST_DESCRIPTION else f"{clean[:_LONGEST_DESCRIPTION]}…"


def tools(
    server: str, listed: Iterable[mcp_types.Tool], approval: Mapping[str, Approval]
) -> dict[str, ToolInfo]:
    """By the server's own names. What cannot be called has its problem said."""
    found: dict[str, ToolInfo] = {}
    for tool in listed:
        name = tool.name
        problem = ""
        if not name or len(name) > _LONGEST_NAME or not name.isprintable():
            name = "".join(c if c.isprintable() else "?" for c in name)[:_LONGEST_NAME] or "?"
            problem = "the server has given it a name that cannot be used"
        elif name in found:
            continue
        schema: dict[str, Any] = tool.input_schema
        if len(msgspec.json.encode(schema, enc_hook=str)) > _LARGEST_SCHEMA:
            schema, problem = {"type": "object"}, problem or "the description of its arguments is too large"
        full = f"{MCP}{server}/{name}"
        found[name] = ToolInfo(
            name=full,
            description=described(tool.description or tool.title),
            parameters=schema,
            source=f"{MCP}{server}",
            approval=approval_of(approval, full),
            problem=problem,
        )
    return found


def resources(
    listed: Iterable[mcp_types.Resource], templates: Iterable[mcp_types.ResourceTemplate]
) -> list[McpResource]:
    """Those with a fixed address, then the others."""
    found = [(one.uri, one) for one in listed] + [(each.uri_template, each) for each in templates]
    return [
        McpResource(
            uri=described(uri),
            name=described(one.name),
            description=described(one.description),
            mime_type=described(one.mime_type),
        )
        for uri, one in found
    ]


def prompts(listed: Iterable[mcp_types.Prompt]) -> list[McpPrompt]:
    return [
        McpPrompt(
            name=described(one.name),
            description=described(one.description),
            arguments=[
                described(argument.name) + ("*" if argument.required else "")
                for argument in one.arguments or []
            ],
        )
        for one in listed
    ]


def outcome(result: mcp_types.CallToolResult, most: int) -> ToolOutcome:
    """Of a call. What is no text is kept beside it, and named in it. `most`: bytes of text."""
    texts: list[str] = []
    content: list[Content] = []
    for block in result.content:
        _take(block, texts, content)
    if result.structured_content is not None:
        data = msgspec.json.encode(result.structured_content, enc_hook=str).decode()
        if not texts:
            texts.append(data)
        content.append(Content(type="json", data=data))
    text = "\n".join(texts) or ("the tool failed and said nothing" if result.is_error else "done")
    return bounded(ToolOutcome(kind="error" if result.is_error else "ok", text=text, content=content), most)


def read(result: mcp_types.ReadResourceResult, most: int) -> ToolOutcome:
    """Of a resource."""
    texts: list[str] = []
    content: list[Content] = []
    for piece in result.contents:
        _take_resource(piece, texts, content)
    return bounded(ToolOutcome(kind="ok", text="\n".join(texts), content=content), most)


def prompt(result: mcp_types.GetPromptResult, most: int) -> ToolOutcome:
    """Each message under the name of who says it."""
    texts: list[str] = []
    content: list[Content] = []
    for message in result.messages:
        said: list[str] = []
        _take(message.content, said, content)
        texts.append(f"{message.role}: " + "\n".join(said))
    return bounded(ToolOutcome(kind="ok", text="\n\n".join(texts), content=content), most)


def _take(block: mcp_types.ContentBlock, texts: list[str], content: list[Content]) -> None:
    if block.type == "text":
        texts.append(block.text)
    elif block.type == "image" or block.type == "audio":
        content.append(Content(type=block.type, data=block.data, mime_type=block.mime_type))
        texts.append(f"[{block.type}, {block.mime_type}, {_bytes(block.data):,} bytes]")
    elif block.type == "resource":
        _take_resource(block.resource, texts, content)
    else:
        content.append(Content(type=block.type, uri=block.uri, mime_type=block.mime_type or ""))
        texts.append(f"[resource {block.uri}{f', {block.name}' if block.name else ''}]")


def _take_resource(
    resource: mcp_types.TextResourceContents | mcp_types.BlobResourceContents,
    texts: list[str],
    content: list[Content],
) -> None:
    kind, uri = resource.mime_type or "", resource.uri
    if hasattr(resource, "text"):
        content.append(Content(type="resource", uri=uri, mime_type=kind, text=resource.text))
        texts.append(resource.text)
    else:
        content.append(Content(type="resource", uri=uri, mime_type=kind, data=resource.blob))
        texts.append(f"[resource {uri}, {kind or 'no text'}, {_bytes(resource.blob):,} bytes]")


def _bytes(base64: str) -> int:
    return len(base64) * 3 // 4 - base64[-2:].count("=")
