"""The tools actor's side of its template: starts it, replaces it, learns from it which tools there are."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from fusiond.errors import FusionError
from fusiond.paths import TREE
from fusiond.protocol.tools import ToolInfo
from fusiond.tools.namespaces import die_with_parent
from fusiond.tools.settings import ToolsConfig
from fusiond.tools.wire import (
    KEEP_ENVIRONMENT,
    MAX_DATAGRAM,
    Begin,
    Forked,
    Known,
    Loaded,
    Loading,
    Spawn,
    decode_from_template,
    encode,
)

LOADING_S = 20.0
"""Seconds that one module with tools may take to be imported."""

_DELIVERY = 3.0  # seconds a template has to fork a worker
_SEE = "see fusionctl logs tools"
_FAILURES = 3  # in a row without a module to blame: it is of no use to try on


class Catalogue(NamedTuple):
    """`infos`: to list. `tools`: to call, by name; where there are only problems with a name, one of them.

    `isolated`: they are called in namespaces of their own. `shell`: what isolates its commands besides.
    """

    infos: list[ToolInfo]
    tools: dict[str, Known]
    isolated: bool
    shell: str

    @classmethod
    def of(cls, found: list[Known], loaded: Loaded) -> Catalogue:
        problems_first = sorted(found, key=lambda known: not known.info.problem)
        tools = {known.info.name: known for known in problems_first}
        return cls([known.info for known in found], tools, loaded.isolated, loaded.shell)


class Launcher:
    """Gives out workers; `on_worker` gets the pid of each, its connection and whether it is isolated.

    `on_failed` is told when one that was asked for does not come, and why.
    """

    def __init__(
        self,
        config: ToolsConfig,
        on_worker: Callable[[int, socket.socket, bool], None],
        on_failed: Callable[[str], None],
        loading_s: float,
    ) -> None:
        self._config = config
        self._on_worker, self._on_failed = on_worker, on_failed
        self._loading_s = loading_s
        self._loop = asyncio.get_running_loop()
        self.pid = 0
        self._control: socket.socket | None = None
        self._asked: deque[socket.socket] = deque()  # connections of workers that it owes us
        self._skip: dict[str, str] = {}
        self._deaths: dict[str, int] = {}
        self._source = ""
        self._found: list[Known] = []
        self._catalogue: Catalogue | None = None
        self._loaded: asyncio.Future[None] | None = None
        self._limit: asyncio.TimerHandle | None = None
        self._too_long = False
        self._ready = False
        self._closed = False
        self._failures = 0

    @property
    def owed(self) -> int:
        """How many workers are on their way."""
        return len(self._asked)

    async def catalogue(self) -> Catalogue:
        """What there is, as soon as it is loaded; raises FusionError if that cannot be."""
        if self._catalogue is None:
            if self._loaded is None:
                self._loaded = self._loop.create_future()
                if not self.pid:
                    self._start()
            await asyncio.shield(self._loaded)
        assert self._catalogue is not None
        return self._catalogue

    def spawn(self) -> None:
        """Orders one worker."""
        if not self.pid:
            self._start()
        assert self._control is not None
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._asked.append(ours)
        with theirs, suppress(OSError):  # one that has died or hangs is noticed elsewhere
            socket.send_fds(self._control, [encode(Spawn())], [theirs.fileno()])
        self._loop.call_later(_DELIVERY, self._overdue, ours)

    def close(self) -> None:
        """Ends the template."""
        self._closed = True
        self._part()
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)

    def ended(self, how: str) -> None:
        """The template has been reaped."""
        while self._read():
            pass
        self._part()
        self.pid = 0
        lost = len(self._asked)
        while self._asked:
            self._asked.popleft().close()
        if not self._ready:
            self._blame(how)
        elif lost:
            self._failures += 1
        if self._closed or (self._ready and not lost):
            return  # the next who needs it starts it
        if self._failures < _FAILURES:
            self._start()
            for _ in range(lost):
                self.spawn()
        else:
            self._give_up(how, lost)

    # --- its life ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.set_inheritable(True)
        us = os.getpid()
        args = ["-P", "-m", "fusiond.tools.template", str(theirs.fileno()), str(us)]
        environment = os.environ | {TREE: self._config.run_dir, **KEEP_ENVIRONMENT}
        pid = os.fork()
        if pid == 0:
            try:
                die_with_parent()
                if os.getppid() == us:
                    os.setsid()
                    os.execve(sys.executable, [sys.executable, *args], environment)  # noqa: S606 — ourselves
            finally:
                os._exit(127)
        theirs.close()
        ours.setblocking(False)
        self.pid, self._control = pid, ours
        self._source, self._found, self._too_long, self._ready = "", [], False, False
        self._loop.add_reader(ours.fileno(), self._read)
        ours.send(encode(Begin(self._config, self._skip)))
        self._watch()

    def _part(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
        if self._control is not None:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
            self._control = None

    def _watch(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
        self._limit = self._loop.call_later(self._loading_s, self._takes_too_long)

    def _takes_too_long(self) -> None:
        self._too_long = True
        os.kill(self.pid, signal.SIGKILL)

    def _overdue(self, connection: socket.socket) -> None:
        if connection not in self._asked:
            return
        if self._ready:
            os.kill(self.pid, signal.SIGKILL)
        else:
            self._loop.call_later(_DELIVERY, self._overdue, connection)

    def _blame(self, how: str) -> None:
        """It did not come to the end of loading: the next one leaves out what this one was at."""
        source = self._source
        if not source:
            self._failures += 1
        elif self._too_long:
            self._skip[source] = f"loading it took more than {self._loading_s:g} s"
        else:
            self._deaths[source] = self._deaths.get(source, 0) + 1
            if self._deaths[source] == _FAILURES:  # once may have been somebody's hand
                self._skip[source] = f"loading it ended the process: {how}"

    def _give_up(self, how: str, lost: int) -> None:
        self._failures = 0  # whoever asks next may try again
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_exception(FusionError(f"the tools cannot be loaded: {how}", advice=_SEE))
            self._loaded.exception()  # seen, even if nobody waits
            self._loaded = None
        for _ in range(lost):
            self._on_failed(f"the process that makes workers ended: {how}")

    # --- its words ---------------------------------------------------------------------------------------------------

    def _read(self) -> bool:
        """Takes one word; returns whether there was one. The loop calls again if there are more."""
        if self._control is None:
            return False
        try:
            word = self._control.recv(MAX_DATAGRAM)
        except BlockingIOError:
            return False
        except OSError:
            word = b""
        if not word:  # its end; SIGCHLD tells the rest
            self._loop.remove_reader(self._control.fileno())
            return False
        self._take(decode_from_template(word))
        return True

    def _take(self, word: Loading | Known | Loaded | Forked) -> None:
        if isinstance(word, Forked):
            connection = self._asked.popleft()
            if word.pid:
                self._failures = 0
                self._on_worker(word.pid, connection, word.isolated)
            else:
                connection.close()
                self._on_failed(word.problem)
        elif isinstance(word, Known):
            self._found.append(word)
        elif isinstance(word, Loading):
            self._source = word.source
            self._watch()
        else:
            self._complete(word)

    def _complete(self, loaded: Loaded) -> None:
        assert self._limit is not None
        self._limit.cancel()
        self._ready = True
        self._catalogue = Catalogue.of(self._found, loaded)
        if self._loaded is None:
            self._loaded = self._loop.create_future()
        if not self._loaded.done():
            self._loaded.set_result(None)
