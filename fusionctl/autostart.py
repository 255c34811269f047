"""Finding a daemon that answers; starting one where there is none, and replacing one that no longer answers.

Blocking, for an event loop in a thread. Nothing is decided here that the daemon's own lock does not decide
again: of two that start at once one gets the lock, the other says so and ends, and both clients find the one.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fusionctl import control, holder, homes
from fusionctl.holder import Holder
from fusionctl.service_manager import Unit, unit
from fusiond.errors import Busy, ConfigError, Denied, FusionError, Unreachable
from fusiond.paths import Paths, prepare
from fusiond.protocol.control import Health

if TYPE_CHECKING:
    import subprocess

SILENCE = 2.0
"""Seconds of silence after which a supervisor counts as hung: the default of `heartbeat_timeout_ms`."""
_ERROR = "fusiond: "  # begins the line in which the daemon says why it ends
_ANOTHER = "another fusiond"  # it says so where it does not get the lock
_YOUNG = 10.0  # seconds a starting supervisor has until it must answer
_STARVED = 3  # silences granted to one that would answer if it were run
_RETURN = 15.0  # seconds that systemd has to start its service again

Notice = Callable[[str], None]


class Daemon(NamedTuple):
    """A daemon that answered. `health`: what it said. `service`: systemd's. `started`: by us, just now."""

    paths: Paths
    holder: Holder
    health: Health
    service: bool
    started: bool = False


def reach(home: str | None, *, autostart: bool, notice: Notice) -> Daemon:
    """The daemon to speak to: one that runs, else a new one.

    Raises `Unreachable` where none answers and none may be started; what a new one says where it cannot
    start.
    """
    found = homes.candidates(home)
    for paths in found:
        if (daemon := running(paths, replace=autostart, notice=notice)) is not None:
            return daemon
        if (service := unit(paths)) is not None and service.comes_back():
            return _service(paths, service, notice)
    if not autostart:
        raise Unreachable(
            f"no daemon is running for {homes.name(found[0])}", advice="start it with: fusionctl start"
        )
    return launch(found[0], notice=notice)


def _service(paths: Paths, service: Unit, notice: Notice) -> Daemon:
    """The service, which is about to come back."""
    notice(f"waiting for {service.name} to come back")
    deadline = time.monotonic() + _RETURN
    while time.monotonic() < deadline:
        if (daemon := running(paths, replace=False, notice=notice)) is not None:
            return daemon
        time.sleep(0.02)
    raise Unreachable(
        f"{service.name} does not come back",
        advice=f"see: {' '.join(service.systemctl('status'))}; or use a daemon of your own: --home DIR",
    )


def running(paths: Paths, *, replace: bool, notice: Notice) -> Daemon | None:
    """The daemon of this home if one runs and answers, None if nobody holds the home.

    One that does not answer is killed if `replace` says so, and None returned; otherwise `Unreachable` is
    raised.
    """
    silences = 0
    while (process := holder.find(paths)) is not None:
        service = process.service
        if (health := _ask(paths, process, "health", SILENCE)) is not None:
            return Daemon(paths, process, health, service)
        silences += 1
        if holder.find(paths) != process or not is_hung(process, silences):
            continue
        if not replace or not process.ours:
            raise Unreachable(hung(process), advice=_way_out(process))
        replace_hung(process, notice)
    return None


def returned(lost: Daemon, *, autostart: bool, notice: Notice) -> Daemon:
    """The daemon of the same home after `lost` has ended: brought back by systemd or another client, else a
    new one.

    Raises `Unreachable` where it does not come back and may not be started.
    """
    others = _RETURN if lost.service else 0.0 if autostart else SILENCE
    deadline = time.monotonic() + others
    while True:
        if (daemon := running(lost.paths, replace=autostart, notice=notice)) is not None:
            return daemon
        if time.monotonic() >= deadline:
            break
        time.sleep(0.02)
    if not autostart or not lost.holder.ours:
        raise Unreachable(
            f"the daemon (pid {lost.holder.pid}) has ended", advice="start it with: fusionctl start"
        )
    return launch(lost.paths, notice=notice, why=f"the daemon (pid {lost.holder.pid}) has ended: ")


def settled(daemon: Daemon) -> Daemon:
    """The daemon once each of its actors is ready or has failed; as it is where it ends or falls silent before."""
    health = _whole(daemon.paths, daemon.holder)
    return daemon if health is None else daemon._replace(health=health)


def replace_hung(process: Holder, notice: Notice) -> None:
    """Ends a supervisor that does not answer; one that systemd looks after is back when this returns."""
    notice(f"{hung(process)}: killing it and starting afresh")
    under_systemd = process.service
    holder.end(process)
    if under_systemd:
        time.sleep(0.5)  # systemd's RestartSec; starting a second one would only lose the lock


def hung(process: Holder) -> str:
    """What is wrong with a supervisor that does not answer."""
    how = "is stopped by a signal" if process.state in ("T", "t") else f"has not answered for {SILENCE:g} s"
    return f"the supervisor (pid {process.pid}) {how}"


def launch(paths: Paths, *, notice: Notice, why: str = "", tries: int = 5) -> Daemon:
    """Starts a daemon for this home and waits until its tree is ready or has failed.

    One that is ended from outside meanwhile is started again, `tries` times in all.
    Raises what the daemon said where it ended instead: `ConfigError`, `Denied`, or a `FusionError` with its
    last words.
    """
    import subprocess  # not needed by those who find one running, most of the time

    prepare(paths)
    with open(paths.daemon_log, "ab", opener=_private) as log:
        before = log.tell()
        process = subprocess.Popen(
            command(paths),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment(),
            start_new_session=True,
        )
    threading.Thread(target=process.wait, daemon=True, name="reaper").start()
    notice(f"{why}starting the daemon (pid {process.pid})")
    return _await_ready(paths, process, before, notice, tries - 1)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def command(paths: Paths) -> list[str]:
    """The daemon's command line."""
    home = [] if paths.home is None else ["--home", str(paths.home)]
    return [sys.executable, "-m", "fusiond", *home]


def _await_ready(
    paths: Paths, process: subprocess.Popen[bytes], log_start: int, notice: Notice, tries: int
) -> Daemon:
    """Whoever holds the home in the end, ready: the process we started, or the one that was quicker."""
    silences = 0
    while True:
        ended = process.returncode is not None
        found = holder.find(paths)
        if found is None:
            if ended:
                error = last_words(paths.daemon_log, log_start, process.returncode)
                if _ANOTHER in error.message:  # one that was on its way down; now it is gone
                    return launch(paths, notice=notice, tries=tries)
                if process.returncode <= 0 and tries > 0:  # by a signal, or by one that it obeyed
                    how = f"ended by signal {-process.returncode}" if process.returncode else "told to end"
                    why = f"the daemon (pid {process.pid}) was {how} while it started: "
                    return launch(paths, notice=notice, why=why, tries=tries)
                raise error
            time.sleep(0.005)
        elif (health := _whole(paths, found)) is not None:
            return Daemon(paths, found, health, found.service, started=found.pid == process.pid)
        elif holder.find(paths) == found and is_hung(found, silences := silences + 1):
            replace_hung(found, notice)
            return launch(paths, notice=notice, tries=tries)


def _whole(paths: Paths, process: Holder) -> Health | None:
    """The tree's health once it is ready or has failed; None if the supervisor ended or went silent."""
    while True:
        if (answer := _ask(paths, process, "wait", 5.0)) is not None:
            return answer
        if _ask(paths, process, "health", SILENCE) is None:
            return None


def _ask(paths: Paths, process: Holder, verb: str, timeout: float) -> Health | None:
    """A question whose answer is Health; None if the supervisor kept silent or ended, in peace or not."""
    end = process.pidfd()
    if end is None:
        return None
    try:
        answer = control.ask(paths.supervisor_socket, verb, timeout=timeout, end=end)
        return None if answer is None else msgspec.msgpack.decode(answer, type=Health)
    except Busy:  # somebody stops it just now
        if not process.wait(_RETURN):
            raise
        return None
    finally:
        os.close(end)


def is_hung(process: Holder, silences: int) -> bool:
    """Whether a supervisor that has kept silent so many times in a row will not answer any more.

    One that is stopped will not. One that starts may take longer, and so may one that is starved of processor time:
    it waits to be run, or for the disk.
    """
    if process.state in ("T", "t"):
        return True
    return process.age > _YOUNG and (process.state not in ("R", "D") or silences >= _STARVED)


def _way_out(process: Holder) -> str:
    return "end it with: fusionctl stop" if process.ours else "ask whoever runs it to restart it"


def last_words(log: Path, start: int, code: int) -> FusionError:
    """The error of a daemon that ended while it started: its last line in `log` from byte `start` on."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith(_ERROR)), lines[-1] if lines else "")
    said = said.removeprefix(_ERROR)
    if code == ConfigError.exit_code:
        return ConfigError(said)
    if code == Denied.exit_code:
        return Denied(said)
    how = f"exit {code}" if code >= 0 else f"killed by signal {-code}"
    return FusionError(
        f"the daemon ended while it started ({how}): {said.removeprefix('error: ') or 'it said nothing'}",
        advice=f"its log: {log}",
    )


def environment() -> dict[str, str]:
    """Our environment, with what is relative to our folder made absolute: the daemon's folder is /."""
    environment = dict(os.environ)
    for key in ("FUSION_HOME", "FUSION_CONFIG", "FUSION_MODELS", "SSL_CERT_FILE"):
        if environment.get(key):
            environment[key] = str(Path(environment[key]).absolute())
    root = str(Path(__file__).resolve().parents[1])
    if root in (str(Path(entry or ".").resolve()) for entry in sys.path if "-packages" not in entry):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    return environment
