"""Tools, built in, of one's own or of MCP servers: the bodies of the verbs of "tools" and of each "mcp.SERVER".

| verb | body | reply | public |
|---|---|---|---|
| tools `list` | – | list[ToolInfo], those of MCP servers included | yes |
| tools `own` | – | list[ToolInfo], without those of MCP servers | no |
| tools `show` | ToolName | ToolDetail | yes |
| tools `call` | CallTool | ToolOutcome | yes |
| tools `servers` | – | list[McpServerInfo] | yes |
| mcp.SERVER `show` | – | McpServerDetail | yes |
| mcp.SERVER `tools` | – | list[ToolInfo] | yes |
| mcp.SERVER `call` | CallTool | a stream of CallProgress, then ToolOutcome | yes |
| mcp.SERVER `read` | ReadResource | ToolOutcome | yes |
| mcp.SERVER `prompt` | GetPrompt | ToolOutcome | yes |

A tool of an MCP server is named `mcp:SERVER/TOOL` everywhere but in the bodies of its own server's verbs, where TOOL is
enough. What goes wrong with a call is an outcome, in words that a model can act on; an error of `fusiond.errors` says
that there is no such tool, or that the process died (`outcome_unknown`).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Approval = Literal["allow", "ask", "never"]

OutcomeKind = Literal["ok", "error", "invalid", "approval", "denied", "timeout", "crashed"]
"""`error`: the tool says so itself. `invalid`: the arguments are wrong. `approval`: a person must agree first, nothing
was done. `denied`: it may never be called. `timeout`, `crashed`: its worker was ended, or ended itself."""

MCP = "mcp:"


def approval_key(name: str) -> str:
    """Where `config.toml` says whether a tool may be called without asking."""
    return f"tools.approval.{name}" if name.isidentifier() else f'tools.approval."{name}"'


class ToolInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A tool in a list.

    `parameters`: a JSON schema of type object. `source`: `built-in`, `module NAME`, `entry point NAME`, `mcp:SERVER`.
    `repeatable`: a call whose outcome is not known may simply be made again. `problem`: why it cannot be called, or why
    a module with tools could not be loaded (`name` is then the module's); "" if all is well.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    source: str
    approval: Approval = "allow"
    repeatable: bool = False
    problem: str = ""


class ToolDetail(ToolInfo, frozen=True, kw_only=True):
    """`isolation`: in one sentence, what the operating system keeps it from here. Limits in seconds, MB and bytes."""

    isolation: str
    timeout_s: float
    memory_mb: int
    max_output_bytes: int


class ToolName(msgspec.Struct, frozen=True):
    name: str


class CallTool(msgspec.Struct, frozen=True, kw_only=True):
    """Calls a tool. `arguments`: a JSON object, as text. `approved`: a person has agreed to this very call."""

    name: str
    arguments: bytes
    approved: bool = False


class Content(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of a result that is no text. `type` as in MCP: image, audio, resource, resource_link, json.

    `data`: base64 for image and audio, JSON for json. `text`: of a resource that is text.
    """

    type: str
    data: str = ""
    mime_type: str = ""
    uri: str = ""
    text: str = ""


class ToolOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a call. `text`: for the model. `cut`: bytes that were left out of it. `ms`: how long it took."""

    kind: OutcomeKind
    text: str
    content: list[Content] = []
    cut: int = 0
    ms: float = 0.0

    @property
    def ok(self) -> bool:
        return self.kind == "ok"


class CallProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A server's word on how far a call has come; `total` is None where it does not say."""

    progress: float
    total: float | None = None
    message: str = ""


class ReadResource(msgspec.Struct, frozen=True):
    uri: str


class GetPrompt(msgspec.Struct, frozen=True):
    name: str
    arguments: dict[str, str] = {}


class McpServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An MCP server in a list. `state`: `ready`, or why it is not. `tools`: their names in the server."""

    name: str
    state: str
    transport: Literal["stdio", "http"]
    tools: list[str]


class McpResource(msgspec.Struct, frozen=True, kw_only=True):
    """`uri`: a template's has `{…}` in it."""

    uri: str
    name: str
    description: str = ""
    mime_type: str = ""


class McpPrompt(msgspec.Struct, frozen=True, kw_only=True):
    """`arguments`: their names, those that must be given with `*` behind."""

    name: str
    description: str = ""
    arguments: list[str] = []


class McpServerDetail(McpServerInfo, frozen=True, kw_only=True):
    """`server`: what it calls itself, and its version. `protocol`: the MCP version agreed on."""

    server: str
    protocol: str
    instructions: str
    resources: list[McpResource]
    prompts: list[McpPrompt]
    pid: int | None = None


def server_of(name: str) -> tuple[str, str] | None:
    """The server and the tool's own name of `mcp:SERVER/TOOL`; None for a tool of no server."""
    if not name.startswith(MCP):
        return None
    server, _, tool = name.removeprefix(MCP).partition("/")
    return server, tool
