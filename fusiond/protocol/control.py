"""What `supervisor.sock` answers: verbs of service "supervisor", in the envelope of every other message.

| verb | body | reply |
|---|---|---|
| `health` | – | Health |
| `about` | – | About |
| `wait` | – | Health, as soon as every actor is ready or has failed |
| `kill` | Kill | KillReport, once the replacement is ready |
| `restart` | Restart | Health |
| `reload` | – | ReloadReport |
| `stop` | – | Stopping; the daemon's end closes the connection |
| `events` | – | a stream of Event, one a chunk, without end |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

State = Literal["starting", "ready", "draining", "backoff", "failed", "stopped", "standby"]
Kind = Literal["forkserver", "router", "store", "llm", "agent", "tools", "mcp", "batch"]
ExitReason = Literal["exit", "signal", "hung", "stuck", "start_timeout", "rss", "reload", "restart"]
Fault = Literal["block", "hold-lock"]


class LastExit(msgspec.Struct, frozen=True):
    """How an actor's last process ended. `recovered_ms`: from the notice to its replacement being ready."""

    reason: ExitReason
    detail: str
    at: str
    recovered_ms: float | None = None


class ActorHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the tree. What only a process has is None where there is none."""

    name: str
    kind: str
    pid: int | None
    state: State
    generation: int
    last_seen_ms: float | None
    restarts: int
    uptime_s: float | None
    in_flight: int
    loop_lag_ms: float | None
    rss_bytes: int | None
    cpu_percent: float | None
    last_exit: LastExit | None = None
    children: list[int] = []


class SupervisorHealth(msgspec.Struct, frozen=True):
    pid: int
    uptime_s: float


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the whole tree. `degraded`: any actor neither ready nor standby nor stopped by hand."""

    status: Literal["healthy", "degraded", "down"]
    version: str
    supervisor: SupervisorHealth
    actors: list[ActorHealth]


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon is and what configured it. Times: ISO 8601 in UTC.

    `environment`: what `told` tells of the environment in which it was started. `configured`: when it last
    took the configuration from `config_file`.
    """

    version: str
    pid: int
    started: str
    python: str
    environment: dict[str, str]
    config_file: str
    configured: str


_CONFIGURING = (
    "FUSION_MODEL",
    "FUSION_CONFIG",
    "FUSION_MODELS",
    "FUSION_LOG_LEVEL",
    "OPENAI_BASE_URL",
    "ANTHROPIC_BASE_URL",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
)
_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")
SET = "set"
"""All that is told of a key."""


def told(env: Mapping[str, str], keys: Iterable[str] = ()) -> dict[str, str]:
    """The variables that configure a daemon, as far as they may be told: "" for one that is not set.

    Of a key, and `keys` are the names of further ones, it tells only that it is `SET`; of a URL neither user and
    password nor query.
    """
    values = {name: _without_secrets(env.get(name, "").strip()) for name in _CONFIGURING}
    return values | {name: SET if env.get(name, "").strip() else "" for name in (*_KEYS, *keys) if name}


def _without_secrets(value: str) -> str:
    value = re.sub(r"^(\w+://)?[^/?#]*@", r"\1***@", value)
    address, mark, _ = value.partition("?")
    return f"{address}?***" if mark else value


class Kill(msgspec.Struct, frozen=True):
    """Sends `signal` (a name without SIG) to an actor, or makes it commit `fault`."""

    actor: str
    signal: str = "KILL"
    fault: Fault | None = None


class Requests(msgspec.Struct, frozen=True):
    """What became of the requests that an actor held when it died."""

    redispatched: int = 0
    resumed: int = 0
    failed: int = 0


class KillReport(msgspec.Struct, frozen=True, kw_only=True):
    """A recovery, measured in ms from the signal. None for what has not come to pass."""

    actor: str
    signal: str
    old_pid: int
    new_pid: int | None
    noticed_ms: float | None
    respawned_ms: float | None
    ready_ms: float | None
    requests: Requests = Requests()


class Restart(msgspec.Struct, frozen=True):
    """Replaces one actor gracefully, or with None every actor of the tree."""

    actor: str | None = None


class ReloadReport(msgspec.Struct, frozen=True):
    """The names of the actors that were replaced because their configuration changed.

    `anew`: the code on disk is another; the daemon drains and begins anew with it, as the same process.
    """

    replaced: list[str]
    anew: bool = False


class Stopping(msgspec.Struct, frozen=True):
    """The daemon is on its way down. `pid`: its process, to wait for."""

    pid: int


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened. `time`: ISO 8601 in UTC. `ms`: how long it took, where that means something.

    `uid`: the user who ordered it, or who was refused.
    """

    time: str
    kind: str
    actor: str
    pid: int | None = None
    generation: int | None = None
    detail: str = ""
    ms: float | None = None
    uid: int | None = None
