"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

_PACKAGES = (
    "fusion-runtime",
    "pyzmq",
    "msgspec",
    "xllamacpp",
    "aiohttp",
    "httpx",
    "openai",
    "supervisor",
    "xoscar",
    "ray",
    "uvloop",
)


def facts() -> dict[str, str]:
    """Date, processor, load, kernel, Python and the versions of what takes part; "–" for what is not installed."""
    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{len(os.sched_getaffinity(0))} cores, {_processor()}",
        "load before the run": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "libzmq": _libzmq(),
        "runit": _runit(),
    }
    return found | {name: _version(name) for name in _PACKAGES}


def markdown(found: dict[str, str]) -> str:
    """One line."""
    return "Machine: " + " · ".join(f"{name} {value}" for name, value in found.items())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "–"


def _libzmq() -> str:
    import zmq

    return zmq.zmq_version()


def _runit() -> str:
    try:
        shown = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", "runit"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return "–"
    return shown.stdout.strip() or "–"
