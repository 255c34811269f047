"""Which actors there are: from the configuration to the specs that the policy supervises and what each is handed."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fusiond.config import ACTOR_KINDS, FUSION_SERVER, LOCAL, Config, McpServer
from fusiond.paths import Paths
from fusiond.protocol.control import Kind
from fusiond.supervision.spec import ActorSpec
from fusiond.transport.access import AccessRules

FORKSERVER = "forkserver"
ROUTER = "router"
_BOOT = secrets.token_hex(8)
"""Names this life of the daemon."""
_CONNECTING = 0.8  # of the time for start-up: after that an MCP server is given up in words of our own
_SINGLE = ("store", "batch", "tools")  # one of each, whatever the configuration says of replicas


@dataclass(frozen=True)
class Part:
    """One actor of the tree: what the policy knows of it, and what its process is handed."""

    spec: ActorSpec
    config: bytes
    max_rss: int = 0
    """Bytes; a process that has become larger is replaced. 0: no limit."""


def parts(config: Config, paths: Paths, keys: Mapping[str, str]) -> dict[str, Part]:
    """Every actor of the tree by name, in the order in which they start."""
    servers = _servers(config)
    handed: dict[Kind, dict[str, object]] = {
        "store": {
            "database": "" if config.sessions.storage == "memory" else str(paths.database),
            "synchronous": config.store.synchronous,
            "boot": _BOOT,
            "keep_days": config.store.keep_days,
        },
        "llm": {
            "model": config.model,
            "providers": {
                name: {
                    "kind": provider.kind,
                    "base_url": provider.base_url,
                    "api_key": keys.get(name, ""),
                    "api_key_env": provider.api_key_env,
                }
                for name, provider in config.providers.items()
            },
            "models_dir": str(paths.models),
            "run_dir": str(paths.run),
        },
        "tools": {
            "settings": msgspec.to_builtins(config.tools),
            "folder": str(paths.config_file.parent),
            "workspace": _workspace(config, paths),
            "run_dir": str(paths.run),
            "servers": {name: "http" if one.url else "stdio" for name, one in servers.items()},
            "changed": _changed(config.tools.modules, paths.config_file.parent),
        },
        "agent": {
            "model": config.model,
            "settings": msgspec.to_builtins(config.agents),
            "folder": str(paths.config_file.parent),
            "changed": _changed(config.agents.modules, paths.config_file.parent),
        },
        "batch": {"model": config.model},
    }
    found = {FORKSERVER: _part(config, FORKSERVER, "forkserver", "", {"preload": _preload(config)})}
    found[ROUTER] = _part(
        config,
        ROUTER,
        "router",
        "",
        {
            "queue_size": config.router.queue_size,
            "services": [*handed, *(f"mcp.{name}" for name in servers)],
            "clients_path": str(paths.router_socket),
            "actors_path": str(paths.actors_socket),
            "access": msgspec.to_builtins(access_rules(config, paths)),
        },
    )
    for kind, blob in handed.items():
        settings = config.actors[kind]
        names = [kind] if kind in _SINGLE else [f"{kind}.{number}" for number in range(settings.replicas)]
        for name in names:
            found[name] = _part(config, name, kind, kind, blob)
        for number in range(_standbys(config, kind)):
            name = f"{kind}.standby{number or ''}"
            found[name] = _part(config, name, kind, kind, blob, standby=True)
    for server, one in servers.items():
        name = f"mcp.{server}"
        told = {
            "name": server,
            "server": msgspec.to_builtins(one),
            "own": server == FUSION_SERVER,
            "approval": config.tools.approval,
            "max_output_bytes": config.tools.max_output_bytes,
            "connect_s": config.supervisor.startup_timeout_s * _CONNECTING,
            "folder": str(paths.config_file.parent),
            "run_dir": str(paths.run),
            "home": str(paths.home or ""),
        }
        found[name] = _part(config, name, "mcp", name, told)
    return found


def access_rules(config: Config, paths: Paths) -> AccessRules:
    """Who may use the daemon besides its own user."""
    if not paths.shared:
        return AccessRules()
    return AccessRules(os.getegid(), config.access.operators)


def _servers(config: Config) -> dict[str, McpServer]:
    """The MCP servers there are to be, our own among them."""
    servers = {FUSION_SERVER: McpServer(), **config.mcp.servers}
    return {name: one for name, one in servers.items() if one.enabled}


def _workspace(config: Config, paths: Paths) -> str:
    """Relative to the configuration's folder."""
    if not config.tools.workspace:
        return str(paths.state / "workspace")
    return str(paths.config_file.parent / Path(config.tools.workspace).expanduser())


def _changed(modules: list[str], folder: Path) -> list[int]:
    """When the modules in this folder were last written: a reload replaces whoever has loaded an older one."""
    files = (folder.joinpath(*module.split(".")) for module in modules)
    found = [file for at in files for file in (at.with_suffix(".py"), at / "__init__.py") if file.exists()]
    return [file.stat().st_mtime_ns for file in found]


def _standbys(config: Config, kind: Kind) -> int:
    """How many warm twins: `auto` is one for the embedded model, whose load is what a person would wait for."""
    wanted = config.actors[kind].standby
    if wanted == "auto":
        return 1 if kind == "llm" and _is_local(config) else 0
    return int(wanted)


def _is_local(config: Config) -> bool:
    return config.model.startswith(f"{LOCAL}/")


def _preload(config: Config) -> list[str]:
    """What the fork server imports when it has nothing else to do."""
    return [
        "fusiond.actors.llm",
        *(["fusiond.providers.local"] if _is_local(config) else []),
    ]


def _part(
    config: Config, name: str, kind: Kind, service: str, handed: dict[str, object], *, standby: bool = False
) -> Part:
    settings = config.supervisor
    blob = msgspec.msgpack.encode(handed)
    told = (
        f"{settings.heartbeat_interval_ms} {config.log_level}"  # what else its process is told when it starts
    )
    spec = ActorSpec(
        name=name,
        kind=kind,
        service=service,
        heartbeat_timeout_s=settings.heartbeat_timeout_ms / 1000,
        heartbeat_interval_s=settings.heartbeat_interval_ms / 1000,
        startup_timeout_s=settings.startup_timeout_s,
        shutdown_grace_s=settings.shutdown_grace_s,
        standby_for=service if standby else None,
        fingerprint=hashlib.sha256(blob + told.encode()).hexdigest()[:16],
    )
    limit = config.actors[kind].max_rss_mb << 20 if kind in ACTOR_KINDS else 0
    return Part(spec, blob, limit)
