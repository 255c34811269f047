"""A worker: takes one call after the other, as long as nothing of a call is left behind in it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec
import setproctitle

from fusiond.protocol.tools import ToolOutcome
from fusiond.tools import calling
from fusiond.tools.namespaces import adopt_orphans, limit_memory, resident_bytes, show
from fusiond.tools.registry import Registry
from fusiond.tools.settings import ToolsConfig
from fusiond.tools.wire import LENGTH, READY, Done, Order, decode_order, encode, framed, out_of_memory

_GROWTH = 128 << 20  # bytes that may stay behind in memory
_CONTENT = 4 << 20  # bytes of images and the like that a result may have beside its text
_TITLE = "fusiond: tools.worker"


class Worker:
    """Serves the tools actor on `connection`."""

    def __init__(self, connection: socket.socket, config: ToolsConfig, loaded: Registry) -> None:
        self._connection = connection
        self._config = config
        self._registry = loaded

    def serve(self) -> NoReturn:
        """Never returns. Call it in a process of its own."""
        show()
        adopt_orphans()  # so that what a tool leaves running is seen
        limit_memory(self._config.settings.memory_mb)
        setproctitle.setproctitle(_TITLE)
        us, most = os.getpid(), resident_bytes() + _GROWTH
        folder, environment = Path.cwd(), dict(_environment())
        self._connection.sendall(READY)
        while True:
            order = decode_order(self._receive(int.from_bytes(self._receive(LENGTH), "big")))
            try:
                outcome, whole = self._perform(order)
            finally:
                if os.getpid() != us:  # a fork of the tool's that came back
                    os._exit(0)
            again = whole and _is_clean() and resident_bytes() < most and _environment() == environment
            if again:
                os.chdir(folder)
            self._connection.sendall(framed(Done(msgspec.Raw(encode(outcome)), again)))

    def _receive(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            piece = self._connection.recv(size - len(received))
            if not piece:
                os._exit(0)
            received += piece
        return bytes(received)

    def _perform(self, order: Order) -> tuple[ToolOutcome, bool]:
        """What became of it, and whether it went as calls should."""
        tool = self._registry.get(order.name)
        setproctitle.setproctitle(f"{_TITLE} {order.name}")
        whole, started = False, time.perf_counter()
        try:
            if order.check:
                outcome = calling.check(tool, order.arguments) or ToolOutcome(kind="ok", text="")
            else:
                outcome = calling.call(tool, order.arguments)
            outcome = bounded(outcome, self._config.settings.max_output_bytes)
            whole = True
        except MemoryError:
            outcome = ToolOutcome(
                kind="crashed", text=out_of_memory(order.name, self._config.settings.memory_mb)
            )
        except BaseException as error:  # sys.exit() and its like
            outcome = ToolOutcome(kind="crashed", text=f"{order.name} ended its process: {error!r}")
        with suppress(Exception):  # it may have put anything there
            sys.stdout.flush()
            sys.stderr.flush()
        setproctitle.setproctitle(_TITLE)
        return msgspec.structs.replace(outcome, ms=(time.perf_counter() - started) * 1000), whole


def _environment() -> dict[bytes, bytes]:
    data: dict[bytes, bytes] = getattr(os.environ, "_data")  # noqa: B009 — the mapping itself takes 60 µs to compare
    return data


def _is_clean() -> bool:
    """Whether nothing of the call runs on: no process, no thread, no alarm."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
        return False
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208 — for each call, and quick
        return False
    return not any(signal.getitimer(which)[0] for which in (signal.ITIMER_REAL, signal.ITIMER_PROF))


def bounded(outcome: ToolOutcome, most: int) -> ToolOutcome:
    """The outcome with the middle of its text left out if it is longer than `most` bytes, and without content that
    is larger than may be sent."""
    text, cut = cut_in_the_middle(outcome.text, most)
    content = outcome.content
    size = sum(len(piece.data) + len(piece.text) for piece in content)
    if size > _CONTENT:
        content, cut = [], cut + size
        text += f"\n(… {size:,} bytes of data left out …)"
    return msgspec.structs.replace(outcome, text=text, content=content, cut=outcome.cut + cut)


def cut_in_the_middle(text: str, most: int) -> tuple[str, int]:
    """The beginning and the end of `text`, in UTF-8 no more than `most` bytes, and how many bytes were left out."""
    size = _size(text)
    if size <= most:
        return text if text.isascii() else text.encode("utf-8", "replace").decode(), 0
    half = most // 2
    head = text[:half].encode("utf-8", "replace")[:half].decode("utf-8", "ignore")
    tail = text[-half:].encode("utf-8", "replace")[-half:].decode("utf-8", "ignore")
    cut = size - _size(head) - _size(tail)
    return f"{head}\n… {cut:,} bytes left out …\n{tail}", cut


def _size(text: str) -> int:
    """Bytes in UTF-8, counted without a copy of the whole."""
    if text.isascii():
        return len(text)
    step = 1 << 20
    return sum(len(text[at : at + step].encode("utf-8", "replace")) for at in range(0, len(text), step))
