"""The configuration as structs: what may be said, what it means, and what holds where nothing is said.

Every default stands here and nowhere else. The descriptions become the comments of `config init`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
ActorKind = Literal["llm", "agent", "tools", "batch", "store", "router"]
ProviderKind = Literal["openai", "anthropic"]
Approval = Literal["allow", "ask", "never"]

LOG_LEVELS: tuple[LogLevel, ...] = get_args(LogLevel)
ACTOR_KINDS: tuple[ActorKind, ...] = get_args(ActorKind)
LOCAL = "local"
"""The provider of the embedded model and of added model files; nothing about it can be configured."""

EMBEDDED_MODEL = "local/smollm2"
FIRST_CHOICE = {"openai": "openai/gpt-4o-mini", "anthropic": "anthropic/claude-haiku-4-5"}
"""The model asked where none is named, of the first of these providers whose key is set."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class SupervisorSettings(Section, frozen=True, kw_only=True):
    """When a process is taken for dead, and how often it is replaced."""

    heartbeat_interval_ms: Annotated[
        int, Meta(ge=10, le=60_000, description="how often each process says that it lives")
    ] = 250
    heartbeat_timeout_ms: Annotated[
        int, Meta(ge=20, le=600_000, description="a process silent for so long is killed and replaced")
    ] = 2000
    startup_timeout_s: Annotated[
        float, Meta(gt=0, le=3600, description="a process has so long to become ready")
    ] = 30
    shutdown_grace_s: Annotated[
        float, Meta(ge=0, le=3600, description="a process has so long to end by itself when the daemon stops")
    ] = 5
    restart_intensity: Annotated[
        int,
        Meta(ge=0, le=10_000, description="more replacements of one actor than this within the period ..."),
    ] = 20
    restart_period_s: Annotated[
        float, Meta(gt=0, le=86_400, description="... and it is called failed and tried again only slowly")
    ] = 2.0


class RouterSettings(Section, frozen=True, kw_only=True):
    """What waits, and how much of it."""

    queue_size: Annotated[
        int, Meta(ge=1, le=10_000_000, description="requests that may wait for one service; past it: busy")
    ] = 1024


class SessionSettings(Section, frozen=True, kw_only=True):
    """Conversations."""

    storage: Annotated[
        Literal["disk", "memory"], Meta(description='"memory" forgets conversations when the store ends')
    ] = "disk"


class StoreSettings(Section, frozen=True, kw_only=True):
    """The database of conversations and batches."""

    synchronous: Annotated[
        Literal["normal", "full"],
        Meta(
            description='what is recorded survives the death of every process; with "full" a power cut too, at an fsync'
        ),
    ] = "normal"
    keep_days: Annotated[
        float,
        Meta(ge=0, le=36_500, description="conversations, runs and ended jobs older than this go; 0: never"),
    ] = 0


class AccessSettings(Section, frozen=True, kw_only=True):
    """The system's service: who may do what. Members of its own group use it."""

    operators: Annotated[
        str,
        Meta(description="the group whose members also give orders: kill, restart, reload; any job"),
    ] = "fusion-operators"


class ActorSettings(Section, frozen=True, kw_only=True):
    """One kind of actor."""

    replicas: Annotated[int, Meta(ge=0, le=256, description="processes of this kind")] = 1
    standby: Annotated[
        Literal["auto"] | Annotated[int, Meta(ge=0, le=16)],
        Meta(description='warm twins that wait to take over; "auto": 1 for the embedded model, else 0'),
    ] = "auto"
    max_rss_mb: Annotated[
        int, Meta(ge=0, le=1 << 30, description="a process larger than this is replaced; 0: no limit")
    ] = 0


class ProviderSettings(Section, frozen=True, kw_only=True):
    """Where models are asked. The key itself never stands in the file."""

    kind: Annotated[ProviderKind, Meta(description='the API it speaks: "openai" or "anthropic"')] = "openai"
    base_url: Annotated[str, Meta(description="where the API begins")] = ""
    api_key_env: Annotated[
        str, Meta(description="the environment variable, or the systemd credential, that holds the key")
    ] = ""
    api_key_file: Annotated[
        str, Meta(description="or the file that holds it: beside this one, or a systemd credential by name")
    ] = ""


class McpServer(Section, frozen=True, kw_only=True):
    """One MCP server: a command to run, or the URL of one that runs elsewhere."""

    command: Annotated[str, Meta(description="the program to run")] = ""
    args: Annotated[list[str], Meta(description="its arguments")] = []
    env: Annotated[
        dict[str, str],
        Meta(description="its environment, besides HOME, PATH and the like; secrets belong here"),
    ] = {}
    cwd: Annotated[str, Meta(description="the folder it runs in, relative to this file's")] = ""
    url: Annotated[str, Meta(description="instead of a command, where a server runs (streamable HTTP)")] = ""
    headers: Annotated[dict[str, str], Meta(description="what is sent with each request to the URL")] = {}
    timeout_s: Annotated[float, Meta(gt=0, le=86_400, description="a call is given up after so long")] = 60
    enabled: Annotated[bool, Meta(description="false: it is not run")] = True


FUSION_SERVER = "fusion"
"""The MCP server that is always there, unless it is said to be not `enabled`."""


class McpSettings(Section, frozen=True, kw_only=True):
    """MCP servers by name."""

    servers: dict[str, McpServer] = {}


class ShellSettings(Section, frozen=True, kw_only=True):
    """The built-in tool `shell`."""

    allow: Annotated[list[str], Meta(description="beginnings of the commands that it may run")] = []
    timeout_s: Annotated[float, Meta(gt=0, le=86_400, description="a command is killed after so long")] = 30


class HttpSettings(Section, frozen=True, kw_only=True):
    """The built-in tool `http_request`."""

    allow_private: Annotated[
        bool, Meta(description="whether it may reach this machine and addresses of private networks")
    ] = False
    timeout_s: Annotated[float, Meta(gt=0, le=3600, description="a request is given up after so long")] = 30
    max_bytes: Annotated[int, Meta(ge=1, le=1 << 30, description="of a reply no more than this is read")] = (
        1_000_000
    )


BUILT_IN_APPROVAL: Mapping[str, Approval] = {"shell": "ask", "write_file": "ask"}


class ToolsSettings(Section, frozen=True, kw_only=True):
    """Tools of one's own, and what they may do without asking. Built-in approvals hold unless named anew."""

    modules: Annotated[
        list[str], Meta(description="Python modules with tools, found in this file's folder or installed")
    ] = []
    approval: Annotated[dict[str, Approval], Meta(description='for each tool "allow", "ask" or "never"')] = (
        msgspec.field(default_factory=lambda: dict(BUILT_IN_APPROVAL))
    )
    workspace: Annotated[
        str, Meta(description="the folder that tools work in; without one, a folder beside the database")
    ] = ""
    sandbox: Annotated[
        Literal["auto", "required", "off"],
        Meta(description='"required": no shell without isolation by the operating system; "off": none'),
    ] = "auto"
    timeout_s: Annotated[float, Meta(gt=0, le=86_400, description="a call is ended after so long")] = 60
    memory_mb: Annotated[int, Meta(ge=64, le=1 << 30, description="a call may take so much memory")] = 1024
    max_output_bytes: Annotated[
        int, Meta(ge=100, le=16_000_000, description="of a longer output the middle is left out")
    ] = 50_000
    workers: Annotated[int, Meta(ge=1, le=256, description="calls that may run at the same time")] = 8
    shell: ShellSettings = ShellSettings()
    http: HttpSettings = HttpSettings()
    configured: dict[str, dict[str, Any]] = {}


class AgentDefinition(Section, frozen=True, kw_only=True):
    """An agent: who it is and which tools it may use (`mcp:SERVER/*` for all of a server's)."""

    description: Annotated[str, Meta(description="what it is good for; by this an agent is chosen")] = ""
    system_prompt: Annotated[str, Meta(description="who it is and how it works")] = ""
    tools: Annotated[
        list[str], Meta(description="the tools it may use, and no others; mcp:SERVER/TOOL, mcp:SERVER/*")
    ] = []
    model: Annotated[str, Meta(description="the model it thinks with; empty: the default one")] = ""
    max_steps: Annotated[
        int, Meta(ge=0, le=10_000, description="a run ends after so many steps; 0: as all agents")
    ] = 0


class AgentsSettings(Section, frozen=True, kw_only=True):
    """Agents, each in a table of its own: `[agents.NAME]`. The limits hold for a run with all that it calls."""

    modules: Annotated[list[str], Meta(description="Python modules with agents made by AgentBuilder")] = []
    max_steps: Annotated[int, Meta(ge=1, le=10_000, description="a run ends after so many steps")] = 20
    max_tokens: Annotated[int, Meta(ge=0, description="or when so many tokens are used; 0: no limit")] = 0
    timeout_s: Annotated[float, Meta(ge=0, description="or after so long; 0: no limit")] = 0
    defined: dict[str, AgentDefinition] = {}


FREE_TABLES: Mapping[type[Section], str] = {ToolsSettings: "configured", AgentsSettings: "defined"}
"""Tables that hold others of free names beside their own keys, and the field that gathers those in the struct.

`[agents.NAME]` is an agent, `[tools.NAME]` what the constructor of a tool of one's own takes.
"""


def in_struct_shape(kind: type[Section], table: Mapping[str, Any]) -> dict[str, Any]:
    """A table of the file as the struct `kind` has it."""
    if (gathered := FREE_TABLES.get(kind)) is None:
        return dict(table)
    own = {field.name for field in msgspec.structs.fields(kind)} - {gathered}
    free = {name: value for name, value in table.items() if name not in own}
    return {name: value for name, value in table.items() if name in own} | {gathered: free}


def in_file_shape(section: Section) -> dict[str, Any]:
    """The struct as the file has it, in plain tables."""
    table: dict[str, Any] = msgspec.to_builtins(section)
    return table | table.pop(FREE_TABLES[type(section)], {}) if type(section) in FREE_TABLES else table


BUILT_IN_PROVIDERS: Mapping[str, ProviderSettings] = {
    "openai": ProviderSettings(
        kind="openai", base_url="https://api.openai.com/v1", api_key_env="OPENAI_API_KEY"
    ),
    "anthropic": ProviderSettings(
        kind="anthropic", base_url="https://api.anthropic.com", api_key_env="ANTHROPIC_API_KEY"
    ),
}


def _every_actor() -> dict[str, ActorSettings]:
    return {kind: ActorSettings() for kind in ACTOR_KINDS}


def _built_in_providers() -> dict[str, ProviderSettings]:
    return dict(BUILT_IN_PROVIDERS)


class Config(Section, frozen=True, kw_only=True):
    """The configuration in effect. `actors` has every kind, `providers` the built-in ones too."""

    model: Annotated[str, Meta(description="the model asked where none is named: provider/name")] = ""
    log_level: Annotated[LogLevel, Meta(description="DEBUG, INFO, WARNING or ERROR")] = "INFO"
    supervisor: SupervisorSettings = SupervisorSettings()
    router: RouterSettings = RouterSettings()
    sessions: SessionSettings = SessionSettings()
    store: StoreSettings = StoreSettings()
    access: AccessSettings = AccessSettings()
    actors: dict[str, ActorSettings] = msgspec.field(default_factory=_every_actor)
    providers: dict[str, ProviderSettings] = msgspec.field(default_factory=_built_in_providers)
    mcp: McpSettings = McpSettings()
    tools: ToolsSettings = ToolsSettings()
    agents: AgentsSettings = AgentsSettings()
