"""The template: a single-threaded process that has loaded the tools and forks workers that have them too.

What a tool's module does while it is imported hurts this process only: it is replaced, and told to do without that
module. A worker's keeper is forked twice: the intermediate enters the namespaces and exits, and the keeper, an orphan,
becomes a child of the tools actor, which is a subreaper; so it outlives the template.

Started as `python -m fusiond.tools.template FD ACTOR`.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import setproctitle

from fusiond.tools import registry, sandbox
from fusiond.tools.keeper import keep
from fusiond.tools.namespaces import die_with_parent, hide, separate
from fusiond.tools.registry import Registry
from fusiond.tools.settings import ToolsConfig
from fusiond.tools.wire import (
    KEEP_ENVIRONMENT,
    MAX_DATAGRAM,
    Begin,
    Forked,
    Known,
    Loaded,
    Loading,
    decode_to_template,
    encode,
)
from fusiond.tools.worker import Worker

_KEEPER = "fusiond: tools.keeper"


class Template:
    """Serves one tools actor until its end of the connection is closed."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def run(self) -> None:
        begin = decode_to_template(self._control.recv(MAX_DATAGRAM))
        assert isinstance(begin, Begin)
        self._enter(begin.config)
        loaded = registry.load(begin.config, skip=begin.skip, loading=lambda name: self._say(Loading(name)))
        for info in loaded.infos():
            self._say(Known(info, None if info.problem else loaded.get(info.name).metadata().timeout_s))
        import jsonschema  # noqa: F401 — a tenth of a second that no worker needs to take

        shell = sandbox.describe(begin.config.settings)  # found out once, for all workers
        self._say(Loaded(_can_separate(), shell))
        gc.collect()
        gc.freeze()
        while True:
            word, fds, _, _ = socket.recv_fds(self._control, MAX_DATAGRAM, 1)
            if not word:
                return
            self._fork(socket.socket(fileno=fds[0]), begin.config, loaded)

    def _enter(self, config: ToolsConfig) -> None:
        """Tools work in the workspace; importing one may take as much memory as calling it."""
        with suppress(OSError):
            Path(config.workspace).mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chdir(config.workspace)
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if hard == resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_DATA, (config.settings.memory_mb << 20, hard))

    def _say(self, word: object) -> None:
        self._control.send(encode(word))

    def _fork(self, connection: socket.socket, config: ToolsConfig, loaded: Registry) -> None:
        reader, writer = os.pipe()
        try:
            intermediate = os.fork()
        except OSError as error:
            self._say(Forked(0, problem=f"no process could be made: {error.strerror}"))
        else:
            if intermediate == 0:
                self._intermediate(connection, writer, config, loaded)
            os.close(writer)
            said = os.read(reader, 5)
            os.waitpid(intermediate, 0)  # from now on the keeper is the actor's child
            if said:
                self._say(Forked(int.from_bytes(said[1:], "little"), isolated=bool(said[0])))
            else:
                self._say(Forked(0, problem="no process could be made"))
        os.close(reader)
        connection.close()

    def _intermediate(
        self, connection: socket.socket, writer: int, config: ToolsConfig, loaded: Registry
    ) -> NoReturn:
        try:
            isolated = separate()
            keeper = os.fork()
            if keeper == 0:
                os.close(writer)
                self._control.close()
                keep(connection, isolated, _KEEPER, Worker(connection, config, loaded).serve)
            os.write(writer, bytes([isolated]) + keeper.to_bytes(4, "little"))
        finally:
            os._exit(0)


def _can_separate() -> bool:
    trying = os.fork()
    if trying == 0:
        os._exit(0 if separate() else 1)
    return os.waitpid(trying, 0)[1] == 0


def main() -> None:
    die_with_parent()
    if os.getppid() != int(sys.argv[2]):
        return
    hide()
    setproctitle.setproctitle("fusiond: tools.template")
    for name in KEEP_ENVIRONMENT:
        del os.environ[name]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    faulthandler.enable()
    Template(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
