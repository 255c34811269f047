"""The files that make a service of the daemon, for this installation. Pure.

`systemd/` in the source holds them as they are for `/usr/bin/fusiond`.
"""

from __future__ import annotations

from typing import NamedTuple

ACCOUNT = "fusion"

_LIFE = """\
Type=notify
ExecStart={fusiond}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
# at once: systemd would add up to a quarter of a second to any other time
RestartSec=0
# petted from the loop that supervises
WatchdogSec=10s
WatchdogSignal=SIGKILL
TimeoutStartSec=120s
TimeoutStopSec=30s
# a tool or a model that takes too much memory is replaced; the service goes on
OOMPolicy=continue
# the supervisor drains its children itself; whatever is left afterwards is killed
KillMode=mixed
LimitCORE=0"""

_LIMIT = """\
# only what ends before it has begun, a broken installation, can be as quick as this
StartLimitIntervalSec=60
StartLimitBurst=250"""

_SYSTEM = """\
# The system's service. Written by `fusionctl service install`; what you change belongs into a drop-in:
#   systemctl edit fusiond
[Unit]
Description=Fusion, a supervised runtime for LLM work
Wants=network-online.target
After=network-online.target
{limit}

[Service]
{life}
User=fusion
Group=fusion
UMask=0077

# /run/fusion: sockets. /var/lib/fusion: conversations, jobs, the tools' workspace.
RuntimeDirectory=fusion
RuntimeDirectoryMode=0750
# kept while the service is started again, so that clients know where it will be
RuntimeDirectoryPreserve=restart
StateDirectory=fusion
StateDirectoryMode=0750
CacheDirectory=fusion
CacheDirectoryMode=0750
ConfigurationDirectory=fusion
ConfigurationDirectoryMode=0750
Environment=HOME=/var/lib/fusion
# keys: in a drop-in, for each provider
#   LoadCredential=OPENAI_API_KEY:/etc/fusion/keys/openai

LimitNOFILE=65536

NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
# no ProtectProc: the supervisor looks at its children, and they may not be traced, so it would hide them too.
# All of /proc: Node and the embedded model read /proc/cpuinfo and /proc/meminfo
ProcSubset=all
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
PrivateMounts=yes
# tools and MCP servers end with their namespaces; bubblewrap makes its own
RestrictNamespaces=user pid mnt net ipc
# netlink: bubblewrap sets up the loopback of its network namespace
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
# no MemoryDenyWriteExecute: Node compiles at run time, and aborts under it
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@resources @privileged
# inside its own user namespace bubblewrap mounts and drops capabilities
SystemCallFilter=mount umount2 pivot_root capset setpriority sched_setaffinity sched_setscheduler setns unshare
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""

_USER = """\
# A user's own service. Written by `fusionctl service install --user`; what you change belongs into a drop-in:
#   systemctl --user edit fusiond
[Unit]
Description=Fusion, a supervised runtime for LLM work
{limit}

[Service]
{life}

[Install]
WantedBy=default.target
"""

_SYSUSERS = """\
# The account of the service.
u fusion - "Fusion" /var/lib/fusion
# its members may also kill, restart and reload; they must be members of fusion, too
g fusion-operators -
"""

_TMPFILES = """\
# The configuration, and the keys that only root reads: the service gets them by LoadCredential.
d /etc/fusion 0750 root fusion -
d /etc/fusion/keys 0700 root root -
"""


class File(NamedTuple):
    """One to be written. `path`: absolute; for a user's service relative to the home folder."""

    path: str
    text: str


def system(fusiond: str, prefix: str = "/etc") -> list[File]:
    """Of the system's service. `fusiond`: the program's absolute path."""
    return [  # the folders' names are systemd's
        File(f"{prefix}/sysusers.d/fusion.conf", _SYSUSERS),
        File(f"{prefix}/tmpfiles.d/fusion.conf", _TMPFILES),  # noqa: S108
        File(f"{prefix}/systemd/system/fusiond.service", _SYSTEM.format(life=_life(fusiond), limit=_LIMIT)),
    ]


def user(fusiond: str) -> list[File]:
    """Of a user's own service."""
    return [File(".config/systemd/user/fusiond.service", _USER.format(life=_life(fusiond), limit=_LIMIT))]


def _life(fusiond: str) -> str:
    return _LIFE.format(fusiond=_quoted(fusiond))


def _quoted(path: str) -> str:
    """As systemd.syntax(7) wants it in a command line."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if " " in path or '"' in path else escaped
