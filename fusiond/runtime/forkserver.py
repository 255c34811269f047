"""The fork server: a warm, single-threaded process that has imported what actors need, and forks blank children.

It never creates a ZeroMQ context and never starts a thread, so that a fork of it is whole. Each blank is forked twice:
the intermediate exits, and the blank, an orphan, becomes a child of the supervisor, which is a subreaper; so it
outlives us. Its lifeline's other end goes to the supervisor, which from then on needs us no more for it.

The first of a daemon is forked from the supervisor, whose memory it shares; every later one is started as
`python -m fusiond.runtime.forkserver FD SUPERVISOR ENDPOINT`, with the code that is on disk by then. Its assignment
says what to preload when there is nothing else to do.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import socket
import sys
import time
from contextlib import suppress
from typing import NoReturn

import msgspec

import fusiond.actors.agent
import fusiond.actors.batch
import fusiond.actors.host
import fusiond.actors.life
import fusiond.actors.mcp
import fusiond.actors.router
import fusiond.actors.store
import fusiond.actors.tools  # noqa: F401 — preloaded: what every tree runs
from fusiond.actors.life import MAX_DATAGRAM, commit, next_beat, write_to
from fusiond.protocol.lifeline import (
    Assign,
    Beat,
    Blank,
    Commit,
    Drain,
    Fork,
    Ready,
    Warm,
    decode_to_process,
    encode,
)
from fusiond.runtime import linux
from fusiond.runtime.child import live, prepare, title


class _Pulse:
    """Finds no module; lets the fork server beat between the hundreds that one import may consist of."""

    def __init__(self, server: ForkServer) -> None:
        self._server = server

    def find_spec(self, *_: object) -> None:
        self._server.beat()


class ForkServer:
    """Serves one supervisor until its lifeline ends."""

    def __init__(self, lifeline: socket.socket, supervisor: int, endpoint: str) -> None:
        self._endpoint = endpoint
        self._lifeline = lifeline
        self._supervisor = supervisor
        self._interval = 0.0
        self._preload: list[str] = []
        self._warmth = 0
        self._seq = 0
        self._forked = 0
        self._beat_at = 0.0

    def run(self) -> None:
        """Waits for its assignment, then beats, forks and preloads; returns when told to end."""
        if not self._begin():
            return
        gc.collect()
        gc.freeze()
        self._say(Ready())
        self._beat_at = time.monotonic()
        poll = select.poll()
        poll.register(self._lifeline, select.POLLIN)
        while True:
            self.beat()
            wait = 0.0 if self._preload else max(0.0, self._beat_at - time.monotonic())
            if poll.poll(wait * 1000):
                if not self._read():
                    return
            elif self._preload:
                self._warm_up(self._preload.pop(0))

    def _begin(self) -> bool:
        word, fds, _, _ = socket.recv_fds(self._lifeline, MAX_DATAGRAM, 1)
        assign = decode_to_process(word) if word else None
        if not isinstance(assign, Assign):
            return False
        write_to(fds[0])
        self._interval = assign.heartbeat_interval_ms / 1000
        self._preload = msgspec.msgpack.decode(assign.config)["preload"]
        return True

    def beat(self) -> None:
        """Beats if it is time to."""
        now = time.monotonic()
        if now >= self._beat_at:
            self._seq += 1
            self._say(Beat(self._seq, (now - self._beat_at) * 1000, 0, self._forked))
            self._beat_at = next_beat(now, self._interval)

    def _read(self) -> bool:
        word, fds, _, _ = socket.recv_fds(self._lifeline, MAX_DATAGRAM, 1)
        if not word:
            return False
        if fds:
            write_to(fds[0])
        decoded = decode_to_process(word)
        if isinstance(decoded, Fork):
            self._fork()
        elif isinstance(decoded, Commit):
            commit(decoded.fault)
        return not isinstance(decoded, Drain)

    def _warm_up(self, module: str) -> None:
        sys.meta_path.insert(0, _Pulse(self))
        with suppress(ImportError):  # an actor that really needs it will say so
            importlib.import_module(module)
        del sys.meta_path[0]
        gc.collect()
        gc.freeze()
        self._warmth += 1
        if not self._preload:
            self._say(Warm(self._warmth))

    def _fork(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reader, writer = os.pipe()
        intermediate = os.fork()
        if intermediate == 0:
            blank = os.fork()
            if blank:
                os.write(writer, blank.to_bytes(4, "little"))
                os._exit(0)
            self._be_blank(ours, theirs, reader, writer)
        os.close(writer)
        blank = int.from_bytes(os.read(reader, 4), "little")
        os.close(reader)
        os.waitpid(intermediate, 0)
        theirs.close()
        self._forked += 1
        with suppress(OSError):
            socket.send_fds(self._lifeline, [encode(Blank(blank, self._warmth))], [ours.fileno()])
        ours.close()

    def _be_blank(self, ours: socket.socket, theirs: socket.socket, reader: int, writer: int) -> NoReturn:
        while os.getppid() != self._supervisor:  # until the intermediate has exited
            if not linux.is_there(self._supervisor):
                os._exit(0)
            time.sleep(0.0002)
        ours.close()
        os.close(reader)
        os.close(writer)
        self._lifeline.close()
        live(theirs, self._supervisor, self._endpoint)

    def _say(self, word: object) -> None:
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            self._lifeline.send(encode(word), socket.MSG_DONTWAIT)


def main(fd: str, supervisor: str, endpoint: str) -> None:
    """Is the fork server. The arguments are those of the command line."""
    linux.die_with(int(supervisor))
    linux.keep_secrets()
    linux.share_heap()
    title("forkserver")
    prepare()
    ForkServer(socket.socket(fileno=int(fd)), int(supervisor), endpoint).run()


if __name__ == "__main__":
    main(*sys.argv[1:4])
