"""A blank child: waits for its assignment, then is that actor for the rest of its life.

Forked ahead by the fork server, or, when there is none, started as
`python -m fusiond.runtime.child FD SUPERVISOR ENDPOINT`.
"""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import logging
import os
import signal
import socket
import sys
from contextlib import closing, suppress
from typing import NoReturn

import setproctitle
import zmq

from fusiond.actors.life import MAX_DATAGRAM, write_to
from fusiond.errors import FusionError
from fusiond.protocol.lifeline import Assign, Drain, StartFailed, decode_to_process, encode
from fusiond.runtime import linux
from fusiond.runtime.logs import log_to_journal, start_logging
from fusiond.transport.loops import DirectLoop
from fusiond.transport.sockets import Dealer

log = logging.getLogger("fusiond")


def live(lifeline: socket.socket, supervisor: int, endpoint: str) -> NoReturn:
    """Arms the death signal, waits for an assignment, becomes the actor; never returns."""
    linux.die_with(supervisor)
    if os.getsid(0) != os.getpid():
        os.setsid()  # Ctrl-C at the daemon's terminal is for the supervisor alone; and our group can be killed as one
    title("blank")
    loop, dealer = warm_up(endpoint)
    word, fds, _, _ = socket.recv_fds(lifeline, MAX_DATAGRAM, 8)
    if not word:
        os._exit(0)
    assign = decode_to_process(word)
    if isinstance(assign, Drain):
        os._exit(0)  # dismissed before it was told what to be
    assert isinstance(assign, Assign)
    become(assign, lifeline, fds, loop, dealer)


def prepare() -> None:
    """Does what a child inherits from the fork server, so that it is done once, and in memory that all share: what a
    loop's first turn writes to, too."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    faulthandler.enable()
    faulthandler.register(linux.DUMP_SIGNAL, all_threads=True)
    start_logging("INFO")
    with closing(DirectLoop()) as loop:
        loop.run_until_complete(asyncio.sleep(0.001))


def warm_up(endpoint: str) -> tuple[asyncio.AbstractEventLoop, Dealer]:
    """Does ahead what every actor needs and what takes milliseconds: the event loop, and a connection to the router, on
    which nothing is said before there is an actor to say it."""
    loop = DirectLoop()
    return loop, loop.run_until_complete(_connection(endpoint))


async def _connection(endpoint: str) -> Dealer:
    return Dealer(endpoint)


def title(name: str) -> None:
    """What `ps` shows."""
    setproctitle.setproctitle(f"fusiond: {name}")


def become(
    assign: Assign, lifeline: socket.socket, fds: list[int], loop: asyncio.AbstractEventLoop, dealer: Dealer
) -> NoReturn:
    """Is the actor until it ends. `fds`: its log, then what its kind needs besides."""
    title(assign.name)
    write_to(fds[0])
    if assign.journal:
        log_to_journal(assign.name)
    logging.getLogger().setLevel(assign.log_level)
    status = 1
    try:
        loop.run_until_complete(_serve(assign, lifeline, fds[1:], dealer))
        status = 0
    except FusionError as error:
        _failed(lifeline, str(error))
    except Exception as error:
        logging.getLogger(__name__).exception("%s cannot go on", assign.name)
        _failed(lifeline, f"{type(error).__name__}: {error}")
    except SystemExit as exit:
        status = exit.code if isinstance(exit.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


async def _serve(assign: Assign, lifeline: socket.socket, fds: list[int], dealer: Dealer) -> None:
    if assign.kind == "router":
        from fusiond.actors import router

        dealer.close()
        await router.serve(assign, lifeline, fds)
    else:
        from fusiond.actors import host

        module = importlib.import_module(f"fusiond.actors.{assign.kind}")
        await host.serve(module.create, assign, lifeline, dealer)
    zmq.Context.instance().term()  # what was said last leaves


def _failed(lifeline: socket.socket, message: str) -> None:
    log.error("%s", message)
    with suppress(OSError):
        lifeline.send(encode(StartFailed(message)))


if __name__ == "__main__":
    linux.keep_secrets()
    prepare()
    live(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), sys.argv[3])
