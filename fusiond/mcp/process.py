"""An MCP server's process: a keeper's only child, in namespaces that end with it, and it ends with our process.

The keeper is forked twice, so that it enters the namespaces before it begins; our process must be a subreaper.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import psutil

from fusiond.errors import FusionError
from fusiond.tools.keeper import keep
from fusiond.tools.namespaces import adopt_orphans, separate
from fusiond.tools.wire import LENGTH, in_words, status_of

_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM")
_PASSED_ON_BEGINNINGS = ("LC_", "XDG_", "SSL_CERT_", "NODE_EXTRA_CA_CERTS")
_NO_SUCH = 127
_LINGER = 1.0  # seconds that a server has to end by itself after its input has


class ServerProcess:
    """A server that has been started. `stdin`, `stdout`: our ends of its pipes; whoever takes one closes it."""

    def __init__(self, keeper: int, isolated: bool, words: socket.socket, stdin: int, stdout: int) -> None:
        self.keeper = keeper
        self._isolated = isolated
        self._words = words
        self.stdin, self.stdout = stdin, stdout
        self._loop = asyncio.get_running_loop()
        self._end = os.pidfd_open(keeper)
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._loop.add_reader(self._end, self._reap)
        self._server: int | None = None

    @property
    def pids(self) -> list[int]:
        """Of the keeper and the server."""
        if self._ended.done():
            return []
        return [self.keeper, *([self.server] if self.server else [])]

    @property
    def server(self) -> int | None:
        """The server's own pid, None while there is none."""
        if self._server is None and not self._ended.done():
            with suppress(psutil.Error):
                self._server = next((child.pid for child in psutil.Process(self.keeper).children()), None)
        return self._server

    async def ended(self) -> str:
        """Waits for its end; returns how it was: `SIGKILL`, `status 3`."""
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        """Lets it end by itself, for its input has (see to that first), then ends it and all that it has started."""
        if not self._ended.done():
            await asyncio.wait({self._ended}, timeout=_LINGER)
        if not self._ended.done():
            os.kill(self.keeper, signal.SIGKILL if self._isolated else signal.SIGTERM)
            await asyncio.wait({self._ended}, timeout=_LINGER)

    def _reap(self) -> None:
        self._loop.remove_reader(self._end)
        os.close(self._end)
        with suppress(ChildProcessError):
            os.waitpid(self.keeper, 0)
        status = None
        with suppress(OSError):
            status = status_of(self._words.recv(LENGTH, socket.MSG_DONTWAIT))
        self._words.close()
        self._ended.set_result("its keeper was killed" if status is None else in_words(status))


def start(
    argv: Sequence[str], environment: Mapping[str, str], folder: Path, title: str, *, apart: bool
) -> ServerProcess:
    """Starts `argv` in `folder`, with `environment` and nothing else; its standard error goes to our log.

    `title`: of its keeper in `ps`. `apart`: in namespaces, where the kernel allows it; without, it sees our processes.
    Raises FusionError if there is no such program or folder.
    """
    adopt_orphans()
    ours, theirs = socket.socketpair()
    stdin, to_stdin = os.pipe()
    from_stdout, stdout = os.pipe()
    reports, report = os.pipe()
    us = os.getpid()
    intermediate = os.fork()
    if intermediate == 0:
        try:
            if os.getppid() != us:
                os._exit(0)
            isolated = apart and separate()
            keeper = os.fork()
            if keeper == 0:
                _close_all_but(theirs.fileno(), stdin, stdout, report)
                own = (stdin, stdout, report)
                keep(theirs, isolated, title, lambda: _become(argv, environment, folder, *own), own)
            os.write(report, bytes([isolated]) + keeper.to_bytes(4, "little"))
        finally:
            os._exit(0)
    for fd in (stdin, stdout, report):
        os.close(fd)
    theirs.close()
    os.waitpid(intermediate, 0)
    said = os.read(reports, 5)
    if len(said) == 5:
        ours.send(b"g")  # its parent is us now
        process = ServerProcess(
            int.from_bytes(said[1:], "little"), bool(said[0]), ours, to_stdin, from_stdout
        )
        if not (problem := os.read(reports, 1024)):
            os.close(reports)
            return process
    else:
        problem = b"no process could be made"
        ours.close()
    for fd in (reports, to_stdin, from_stdout):
        os.close(fd)
    raise FusionError(problem.decode("utf-8", "replace"))


def environment_for(given: Mapping[str, str]) -> dict[str, str]:
    """What a server finds in its environment: who and where we are, nothing secret of ours, and what it is `given`."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_BEGINNINGS)
    }
    return passed | dict(given)


def _close_all_but(*kept: int) -> None:
    """But for those and standard output and error."""
    highest = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    before = 2
    for fd in sorted(kept):
        os.closerange(before + 1, fd)
        before = fd
    os.closerange(before + 1, highest)


def _become(
    argv: Sequence[str], environment: Mapping[str, str], folder: Path, stdin: int, stdout: int, report: int
) -> NoReturn:
    try:
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        what = f"its folder {folder} cannot be entered"
        os.chdir(folder)
        what = f"its command {argv[0]} cannot be started"
        os.execvpe(argv[0], list(argv), dict(environment))  # noqa: S606 — no shell
    except OSError as error:
        os.write(report, f"{what}: {error.strerror}".encode())
    finally:
        os._exit(_NO_SUCH)
