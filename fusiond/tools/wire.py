"""What the tools actor, its template and its workers say to each other.

Actor and template: datagrams, each one struct. Actor and worker: a stream of frames, four bytes of length and a struct;
the last four bytes of all say how the worker ended, and can be no length.
"""

from __future__ import annotations

import signal
from typing import Any

import msgspec

from fusiond.protocol.tools import ToolInfo
from fusiond.tools.settings import ToolsConfig

MAX_DATAGRAM = 192 * 1024
LENGTH = 4
READY = bytes(LENGTH)
"""The first that a worker says."""

KEEP_ENVIRONMENT = {"SPT_NOENV": "1"}
"""Said to setproctitle when the template starts: a title must not overwrite the environment that the kernel shows,
by which what is left over is found."""

_ENDED = 1 << 31


class Begin(msgspec.Struct, frozen=True, tag=True):
    """To the template: load the tools, but for the sources in `skip`, which have ended a template before (and how)."""

    config: ToolsConfig
    skip: dict[str, str]


class Spawn(msgspec.Struct, frozen=True, tag=True):
    """To the template: one more worker, please. With it comes its end of the connection."""


ToTemplate = Begin | Spawn


class Loading(msgspec.Struct, frozen=True, tag=True):
    """From the template: it is about to load this source of tools."""

    source: str


class Known(msgspec.Struct, frozen=True, tag=True):
    """From the template: a tool. `timeout_s`: its own limit, None for the configured one."""

    info: ToolInfo
    timeout_s: float | None = None


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """From the template: these were all tools. `isolated`: workers are to get namespaces of their own.

    `shell`: what isolates the commands of the shell besides, in a sentence.
    """

    isolated: bool
    shell: str


class Forked(msgspec.Struct, frozen=True, tag=True):
    """From the template: the worker that was asked for. `pid`: of its keeper; 0 if it could not be made, and why.

    `isolated`: it is the first process of namespaces that end with it.
    """

    pid: int
    isolated: bool = False
    problem: str = ""


FromTemplate = Loading | Known | Loaded | Forked


class Order(msgspec.Struct, frozen=True, array_like=True):
    """To a worker: call this tool. `check`: no, only say whether the arguments are valid."""

    name: str
    arguments: bytes
    check: bool = False


class Done(msgspec.Struct, frozen=True, array_like=True):
    """From a worker. `outcome`: a ToolOutcome, encoded. `again`: nothing is left of the call, it can take another."""

    outcome: msgspec.Raw
    again: bool


_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
decode_to_template = msgspec.msgpack.Decoder(ToTemplate).decode
decode_from_template = msgspec.msgpack.Decoder(FromTemplate).decode
decode_order = msgspec.msgpack.Decoder(Order).decode
decode_done = msgspec.msgpack.Decoder(Done).decode


def framed(message: Any) -> bytes:
    """`message` with its length before it."""
    body = encode(message)
    return len(body).to_bytes(LENGTH, "big") + body


def ended(status: int) -> bytes:
    """A worker's last four bytes. `status`: of its exit, or minus the number of the signal that ended it."""
    return (_ENDED | status & 0xFFFF).to_bytes(LENGTH, "big")


def status_of(word: bytes | bytearray) -> int | None:
    """What `ended` has put into these four bytes; None if they are something else."""
    value = int.from_bytes(word, "big")
    if len(word) < LENGTH or not value & _ENDED:
        return None
    return int.from_bytes(word[2:], "big", signed=True)


def out_of_memory(name: str, megabytes: int) -> str:
    """What a model is told of a tool that took too much, whoever of both noticed it."""
    return f"{name} used more than {megabytes:,} MB of memory and was ended; ask it for less at a time"


def in_words(status: int) -> str:
    """How a process ended: `SIGSEGV`, `status 3`."""
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
