"""Starts processes, listens to their lifelines, ends and reaps them.

An actor starts as a blank child that is told what to be. Blanks come from the fork server, one is kept in stock; when
there is no fork server, or it does not deliver in time, a blank is started by exec: slower, never stuck.

Exits and stops are noticed by SIGCHLD and `waitid`: the supervisor is the parent of every process of the tree, and as
only it reaps them no pid is ever reused before it knows.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from fusiond.actors.life import MAX_DATAGRAM
from fusiond.protocol.lifeline import (
    Assign,
    Beat,
    Blank,
    Fork,
    Promote,
    Relog,
    StartFailed,
    Warm,
    decode_to_supervisor,
    encode,
)
from fusiond.runtime import linux, notify
from fusiond.runtime.logs import Logs
from fusiond.transport.loops import DirectLoop

log = logging.getLogger(__name__)

_STOCK = 1  # blanks kept ready
_DELIVERY = 0.15  # seconds a fork server has to deliver a blank before one is started by exec
_BIRTH = 1.0  # seconds instead while it starts, or still imports what the actor needs: an exec takes as long
_RESTOCK = 0.02  # seconds after a start before the stock is filled up again
_SHORT = 4096  # bytes: the fork server has little to say
_LAST_WORDS = 2000  # bytes at the end of a log that may tell why a process died


class Process:
    """A child of ours. `name` is "" for a blank."""

    def __init__(self, pid: int, lifeline: socket.socket, warmth: int = 0) -> None:
        self.pid = pid
        self.lifeline = lifeline
        self.warmth = warmth
        self.name = ""
        self.generation = 0
        self.service = ""  # what it serves once it is no standby
        self.standby = False
        self.ready = False  # it has said so in this life
        self.log_start = 0  # where in its log this life begins
        self.beat: Beat | None = None
        self.failed = ""  # why it could not start, in its own words

    def say(self, word: Any, fds: list[int] | None = None) -> None:
        """One datagram to the process; one that is dead or does not read will be noticed elsewhere."""
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            socket.send_fds(self.lifeline, [encode(word)], fds or [])


class Exit:
    """How a process ended."""

    def __init__(self, process: Process, code: int, status: int) -> None:
        self.process = process
        self.by_signal = code != os.CLD_EXITED
        self.normal = not self.by_signal and status == 0
        self.detail = linux.signal_name(status) if self.by_signal else f"status {status}"
        self.status = status


def fork_forkserver(endpoint: str) -> Process:
    """The fork server of a supervisor that has neither threads nor a loop yet, and knows no secret: its memory serves
    both, and Python need not be started once more."""

    def begin(fd: int) -> None:
        os.closerange(3, fd)  # the lock among them
        os.closerange(fd + 1, 1 << 20)
        notify.forget(os.environ)
        from fusiond.runtime import forkserver

        forkserver.main(str(fd), str(os.getppid()), endpoint)

    gc.collect()
    gc.freeze()
    return _fork(begin)


def _fork(begin: Callable[[int], None], log_fd: int = -1) -> Process:
    """A child in which `begin` is called with its end of the lifeline; it dies with us. Closes `log_fd`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    us = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            linux.die_with(us)  # before an exec: stopped while it starts, it must not outlive us either
            os.setsid()
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            if log_fd >= 0:
                os.dup2(log_fd, 1)
                os.dup2(log_fd, 2)
            begin(theirs.fileno())
            os._exit(0)
        except BaseException:
            log.exception("a child could not begin")
        finally:
            os._exit(127)
    if log_fd >= 0:
        os.close(log_fd)
    theirs.close()
    return Process(pid, ours)


class Processes:
    """The children of this process. Make it inside the running loop, once."""

    def __init__(
        self,
        *,
        on_word: Callable[[Process, Any], None],
        on_exit: Callable[[Exit], None],
        on_stopped: Callable[[Process], None],
        on_assigned: Callable[[Process], None],
        on_failed: Callable[[str, int, str], None],
        logs: Logs,
        endpoint: str,
        forkserver: Process | None,
    ) -> None:
        self._endpoint = endpoint
        self._firstborn = forkserver
        self._on_word, self._on_exit, self._on_stopped = on_word, on_exit, on_stopped
        self._on_assigned = on_assigned
        self._on_failed = on_failed
        self.logs = logs
        loop = asyncio.get_running_loop()
        assert isinstance(loop, DirectLoop)
        self._loop = loop
        self._children: dict[int, Process] = {}
        self._blanks: list[Process] = []
        self._wanted: deque[tuple[Assign, list[int]]] = deque()
        self._cold: list[tuple[Assign, list[int]]] = []  # what waits for the fork server to import its module
        self._importing: list[str] = []
        self._forkserver: Process | None = None
        self._born = False  # the fork server has said something
        self._buffer = memoryview(bytearray(MAX_DATAGRAM))
        self._asked = 0  # blanks the fork server owes us
        self._warmth = 0
        self._closing = False
        linux.become_subreaper()
        self._loop.add_signal_handler(signal.SIGCHLD, self.reap)

    @property
    def blanks(self) -> list[int]:
        """The pids of the spare children."""
        return [blank.pid for blank in self._blanks]

    def start_forkserver(self, assign: Assign) -> Process:
        """Starts a fork server by exec; the first one is there already."""
        if self._firstborn is not None:
            process, self._firstborn = self._adopt(self._firstborn), None
        else:
            args = [str(os.getpid()), self._endpoint]
            process = self._exec("fusiond.runtime.forkserver", args, self.logs.open(assign.name))
        log_fd = self._name(process, assign.name, assign.generation)
        process.say(assign, [log_fd])
        os.close(log_fd)
        self._forkserver = process
        self._born = False
        self._importing = msgspec.msgpack.decode(assign.config)["preload"]
        self._asked = 0
        self._warmth = 0
        self._want_blank()
        return process

    def start(self, assign: Assign, fds: list[int]) -> None:
        """Starts an actor; `on_assigned` or `on_failed` follows, once. `fds` go with the assignment."""
        if self._forkserver is not None and f"fusiond.actors.{assign.kind}" in self._importing:
            # forked now it would import the same at the same time, and share none of the memory that takes
            self._cold.append((assign, fds))
            self._loop.call_later(_BIRTH, self._thaw)
            return
        self._wanted.append((assign, fds))
        self._supply()

    def _thaw(self) -> None:
        """What has waited for an import waits no longer."""
        if self._cold:
            self._wanted.extend(self._cold)
            self._cold.clear()
            self._supply()

    def forget(self, name: str) -> None:
        """Takes back a start that has not been carried out yet."""
        self._cold = [item for item in self._cold if item[0].name != name]
        self._wanted = deque(item for item in self._wanted if item[0].name != name)

    def close(self) -> None:
        """Ends the spare children and makes no new ones."""
        self._closing = True
        self._wanted.clear()
        self._cold.clear()
        for blank in self._blanks:
            os.kill(blank.pid, signal.SIGKILL)
        self._blanks.clear()

    # --- supply ------------------------------------------------------------------------------------------------------

    def _supply(self) -> None:
        """Gives blanks to those who wait for one, as far as there are any; orders the rest."""
        while self._wanted and self._blanks:
            blank = self._blanks.pop()
            if not linux.is_fit(blank.pid):  # it would not begin; SIGCHLD ends its story
                os.kill(blank.pid, signal.SIGKILL)
                continue
            self._assign(blank, *self._wanted.popleft())
        if self._wanted:
            self._want_blank()
        else:  # a fork now would only take the processor from the one that has just begun
            self._loop.call_later(_RESTOCK, self._want_blank)

    def _want_blank(self) -> None:
        """One blank for each who waits; the stock is filled up when nobody does: a fork costs the one who waits."""
        if self._closing:
            return
        if self._forkserver is None:
            for _ in range(len(self._wanted)):
                self._exec_blank()
            return
        while self._asked + len(self._blanks) < (len(self._wanted) or _STOCK):
            self._asked += 1
            self._forkserver.say(Fork())
        if self._wanted:
            patience = _DELIVERY if self._born else _BIRTH
            self._loop.call_later(patience, self._overdue, self._wanted[0][0])

    def _overdue(self, assign: Assign) -> None:
        """The fork server has not delivered (it starts, or hangs): whoever still waits is started by exec."""
        if not self._closing and any(waiting is assign for waiting, _ in self._wanted):
            self._exec_blank()
            self._loop.call_later(_DELIVERY, self._overdue, assign)

    def _exec_blank(self) -> None:
        if not self._wanted:
            return
        assign, fds = self._wanted.popleft()
        try:
            blank = self._exec("fusiond.runtime.child", [str(os.getpid()), self._endpoint])
        except OSError as error:
            self._on_failed(assign.name, assign.generation, f"no process could be made: {error}")
        else:
            self._assign(blank, assign, fds)

    def _exec(self, module: str, args: list[str], log_fd: int = -1) -> Process:
        def begin(fd: int) -> None:
            os.set_inheritable(fd, True)
            command = [sys.executable, "-P", "-m", module, str(fd), *args]
            os.execv(sys.executable, command)  # noqa: S606 — ourselves

        return self._adopt(_fork(begin, log_fd))

    def _adopt(self, process: Process) -> Process:
        self._children[process.pid] = process
        process.lifeline.setblocking(False)
        self._loop.on_readable(process.lifeline.fileno(), lambda: self._heard(process))
        return process

    def _assign(self, process: Process, assign: Assign, fds: list[int]) -> None:
        try:
            log_fd = self._name(process, assign.name, assign.generation)
        except OSError as error:
            os.kill(process.pid, signal.SIGKILL)
            self._on_failed(assign.name, assign.generation, f"its log cannot be written: {error}")
            return
        process.service, process.standby = assign.service, assign.standby
        self._on_assigned(process)
        process.say(assign, [log_fd, *fds])
        os.close(log_fd)

    def promote(self, process: Process, name: str, generation: int) -> None:
        """A standby's process is this actor from now on, and writes to its log, or to its old one if it must."""
        process.standby = False
        try:
            log_fd = self._name(process, name, generation)
        except OSError:
            process.name, process.generation = name, generation
            process.say(Promote(name, generation))
            return
        process.say(Promote(name, generation), [log_fd])
        os.close(log_fd)

    def _name(self, process: Process, name: str, generation: int) -> int:
        """Returns a descriptor of the log that goes with the name, to be closed."""
        log_fd = self.logs.open(name)
        process.name, process.generation = name, generation
        process.log_start = os.fstat(log_fd).st_size
        return log_fd

    def last_words(self, process: Process) -> str:
        """Why it could not start, in its own words; else what it said last on standard error in this life."""
        said = self.logs.since(process.name, process.log_start, _LAST_WORDS)
        return process.failed or (said[-1].strip() if said else "")

    def rotate_logs(self) -> None:
        """Lets every process whose log has become too long go on in a new one."""
        for process in self._children.values():
            if process.name and not process.standby:
                try:
                    log_fd = self.logs.rotate(process.name)
                except OSError as error:
                    log.warning("the log of %s cannot be put aside: %s", process.name, error.strerror)
                    continue
                if log_fd is not None:
                    process.log_start = 0
                    process.say(Relog(), [log_fd])
                    os.close(log_fd)

    # --- lifelines and exits -----------------------------------------------------------------------------------------

    def _heard(self, process: Process) -> None:
        """Takes one word; the loop calls again if there are more."""
        try:
            self._read(process)
        except Exception:  # nothing that a child says may end the loop
            log.exception("what %s said could not be read", process.name or "a blank")

    def _read(self, process: Process) -> bool:
        """Takes one word; returns whether there was one."""
        try:
            word, fds = self._receive(process)
        except BlockingIOError:
            return False
        except OSError:
            word, fds = b"", []
        if not word:  # its end; SIGCHLD tells the rest
            self._loop.off_readable(process.lifeline.fileno())
            return False
        self._word(process, decode_to_supervisor(word), fds)
        return True

    def _receive(self, process: Process) -> tuple[bytes | memoryview, list[int]]:
        """One datagram and the descriptors that came with it; only the fork server sends any."""
        if process is self._forkserver:
            word, fds, _, _ = socket.recv_fds(process.lifeline, _SHORT, 4)
            return word, fds
        return self._buffer[: process.lifeline.recv_into(self._buffer)], []

    def _word(self, process: Process, word: Any, fds: list[int]) -> None:
        self._born = self._born or process is self._forkserver
        if isinstance(word, Blank):
            self._asked -= 1
            lifeline = socket.socket(fileno=fds[0])
            if linux.is_there(word.pid):  # else it has been reaped before we knew it
                self._blanks.append(self._adopt(Process(word.pid, lifeline, word.warmth)))
            self._supply()
            self._retire()
        elif isinstance(word, Warm):
            self._warmth = word.warmth
            self._importing = []
            self._retire()
            self._thaw()
            self._want_blank()
        else:
            if isinstance(word, Beat):
                process.beat = word
            elif isinstance(word, StartFailed):
                process.failed = word.message
            if process.name:
                self._on_word(process, word)

    def _retire(self) -> None:
        """Ends blanks that were forked before the last import, and those beyond the stock."""
        if self._wanted:
            return
        useful = [blank for blank in self._blanks if blank.warmth >= self._warmth]
        for blank in self._blanks:
            if blank not in useful[:_STOCK]:
                os.kill(blank.pid, signal.SIGKILL)
        self._blanks = useful[:_STOCK]

    def reap(self) -> None:
        """Takes note of every child that ended or was stopped."""
        while True:
            try:
                result = os.waitid(os.P_ALL, 0, os.WEXITED | os.WSTOPPED | os.WNOHANG)
            except ChildProcessError:
                return
            if result is None:
                return
            process = self._children.get(result.si_pid)
            if process is None:
                continue  # an orphan that became ours, or a blank that died before it was delivered
            if result.si_code in (os.CLD_STOPPED, os.CLD_TRAPPED):
                if process.name:
                    self._on_stopped(process)
                continue
            try:
                self._ended(process, result.si_code, result.si_status)
            except Exception:  # the others that ended are to be noted all the same
                log.exception("noting the end of %s failed", process.name or "a blank")

    def _ended(self, process: Process, code: int, status: int) -> None:
        while self._read(process):  # its last words
            pass
        del self._children[process.pid]
        self._loop.off_readable(process.lifeline.fileno())
        process.lifeline.close()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # whatever it started and did not take along
        if process in self._blanks:
            self._blanks.remove(process)
        if process is self._forkserver:
            self._forkserver = None
            self._asked = 0
            self._importing = []
            self._loop.call_soon(self._thaw)
        if process.name:
            self._on_exit(Exit(process, code, status))
            self.logs.ended(process.name, process.log_start)
        self._loop.call_later(_RESTOCK, self._want_blank)
