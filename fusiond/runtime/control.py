"""What `supervisor.sock` answers: health, and orders to the tree."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from fusiond.config.naming import nearest
from fusiond.errors import BadRequest, Denied, FusionError, NotFound, NotRunning, ProtocolMismatch, UsageError
from fusiond.paths import GROUP_ADVICE
from fusiond.protocol.control import (
    About,
    Event,
    Health,
    Kill,
    ReloadReport,
    Restart,
    Stopping,
)
from fusiond.protocol.envelope import (
    UNDECODABLE,
    Cancel,
    Chunk,
    Refusal,
    Reply,
    Request,
    encode,
    failure,
    from_client,
    unpack,
)
from fusiond.runtime.look import Look
from fusiond.runtime.recovery import Recovery
from fusiond.runtime.supervisor import Supervisor
from fusiond.supervision import events
from fusiond.supervision.state import Child
from fusiond.transport.access import Access, Throttle, user_name
from fusiond.transport.sockets import Listener, Peer

log = logging.getLogger(__name__)

_json = msgspec.json.Encoder()
_ORDERS = ("kill", "restart", "reload", "stop")
_BROKEN = ("backoff", "failed", "stopped")
_NOTICE = 1.0  # seconds beyond the heartbeat timeout in which a signal shows whether it ended anything
_RECOVERY_LIMIT = 60.0  # seconds `kill` waits for the replacement


@dataclass(frozen=True)
class Ask:
    """One request of a client."""

    peer: Peer
    id: bytes
    body: bytes


class Control:
    """Serves clients of the supervisor."""

    def __init__(
        self,
        supervisor: Supervisor,
        path: str,
        fd: int,
        reload: Callable[[], Awaitable[ReloadReport]],
        stop: Callable[[], None],
        about: Callable[[], About],
        access: Access,
    ) -> None:
        self._supervisor = supervisor
        self._throttle = Throttle()
        self._about = about
        self._reload = reload
        self._stop = stop
        self._look = Look(supervisor)
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._verbs: dict[str, Callable[[Ask], Awaitable[Any]]] = {
            "health": self._health,
            "about": self._tell,
            "wait": self._wait,
            "kill": self._kill,
            "restart": self._restart,
            "reload": self._do_reload,
            "stop": self._do_stop,
            "events": self._events,
            "ping": self._ping,
        }
        self._listener = Listener(path, fd, self._message, access)

    def close(self) -> None:
        """Ends what is being served."""
        for task in self._tasks.values():
            task.cancel()
        self._listener.close(linger_ms=200)

    def _message(self, peer: Peer, message: bytes) -> None:
        try:
            frame, body = unpack(message)
            header = from_client.decode(frame)
        except msgspec.DecodeError as error:
            self._note_refusal(peer, str(error))
            self._listener.send(peer.identity, encode(Refusal(ProtocolMismatch.code, str(error))))
            return
        if isinstance(header, Request) and header.id not in self._tasks:
            task = asyncio.ensure_future(self._serve(peer, header, body))
            self._tasks[header.id] = task
            task.add_done_callback(lambda _: self._tasks.pop(header.id, None))
        elif isinstance(header, Cancel) and (running := self._tasks.get(header.id)):
            running.cancel()

    async def _serve(self, peer: Peer, header: Request, body: bytes) -> None:
        try:
            verb = self._verbs.get(header.verb)
            if verb is None or header.service != "supervisor":
                raise BadRequest(f"the supervisor has no verb {header.service}/{header.verb}")
            self._permit(peer, header.verb)
            answer = await verb(Ask(peer, header.id, body))
            self._listener.send(
                peer.identity,
                encode(Reply(header.id)),
                answer if isinstance(answer, bytes) else msgspec.msgpack.encode(answer),
            )
        except FusionError as error:
            self._listener.send(peer.identity, encode(failure(header.id, error)))
        except UNDECODABLE as error:
            refused = BadRequest(f"{header.verb}: {error}")
            self._listener.send(peer.identity, encode(failure(header.id, refused)))
        except Exception as error:
            log.exception("%s failed", header.verb)
            internal = FusionError(f"internal error: {type(error).__name__}: {error}")
            self._listener.send(peer.identity, encode(failure(header.id, internal)))

    def _permit(self, peer: Peer, verb: str) -> None:
        """Raises Denied, and notes it, where this user may not do this."""
        if peer.role == "operate" or (peer.role == "use" and verb not in _ORDERS):
            return
        name = user_name(peer.uid)
        if peer.role is None:
            denied = Denied(f"{name} may not use this daemon", advice=GROUP_ADVICE)
        else:
            denied = Denied(
                f"{name} may not {verb}", advice="that is for operators: see [access] in its config.toml"
            )
        self._note_refusal(peer, denied.message)
        raise denied

    def _note_refusal(self, peer: Peer, why: str) -> None:
        if self._throttle.admits(peer.uid):
            log.warning("refused a message of %r: %s", peer, why)
            self._supervisor.journal.record("refused", "supervisor", pid=peer.pid, detail=why, uid=peer.uid)

    def _note_order(self, what: str, peer: Peer) -> None:
        detail = f"{what}, by {user_name(peer.uid)}"
        self._supervisor.journal.record("ordered", "supervisor", pid=peer.pid, detail=detail, uid=peer.uid)

    # --- looking -----------------------------------------------------------------------------------------------------

    async def _ping(self, ask: Ask) -> bytes:
        return ask.body

    async def _health(self, _ask: Ask) -> Health:
        return self._look.health()

    async def _wait(self, _ask: Ask) -> Health:
        await self._supervisor.settled()
        return self._look.health()

    async def _tell(self, _ask: Ask) -> About:
        return self._about()

    async def _events(self, ask: Ask) -> bytes:
        """Streams events to this client until it goes away."""
        count = 0
        gone = asyncio.Event()

        def sink(event: Event) -> None:
            nonlocal count
            sent = self._listener.offer(ask.peer.identity, encode(Chunk(ask.id, count)), _json.encode(event))
            count += 1
            if not sent:
                gone.set()

        end = self._supervisor.journal.subscribe(sink)
        try:
            await gone.wait()
        finally:
            end()
        return b""

    # --- orders ------------------------------------------------------------------------------------------------------

    async def _kill(self, ask: Ask) -> Any:
        order = msgspec.msgpack.decode(ask.body, type=Kill)
        child = self._named(order.actor)
        process = self._supervisor.process(order.actor)
        if process is None:
            raise NotRunning(f"{order.actor} has no process just now (it is in {child.state})")
        number = _signal_number(order.signal)
        label = order.fault or signal.Signals(number).name
        self._supervisor.journal.record(
            "killed",
            order.actor,
            pid=process.pid,
            detail=f"{label}, by {user_name(ask.peer.uid)}",
            uid=ask.peer.uid,
        )
        recovery = Recovery(order.actor, label, process.pid)
        self._supervisor.recoveries.append(recovery)
        try:
            if order.fault:
                self._supervisor.commit_fault(order.actor, order.fault)
            else:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)
            with suppress(TimeoutError):  # a signal that ends nothing is noticed by nobody
                await asyncio.wait_for(recovery.seen.wait(), child.spec.heartbeat_timeout_s + _NOTICE)
                await asyncio.wait_for(recovery.done.wait(), _RECOVERY_LIMIT)
            await asyncio.sleep(0)  # the router's word on the requests may just be coming in
        finally:
            self._supervisor.recoveries.remove(recovery)
        return recovery.report()

    async def _restart(self, ask: Ask) -> Health:
        order = msgspec.msgpack.decode(ask.body, type=Restart)
        self._note_order(f"restart {order.actor or 'of everything'}", ask.peer)
        names = [order.actor] if order.actor else list(self._supervisor.state.children)
        for name in names:
            before = self._named(name).generation
            self._supervisor.feed(events.RestartAsked(name))
            while (child := self._supervisor.child(name)) and (
                child.generation == before or child.state not in ("ready", "standby", *_BROKEN)
            ):
                await self._supervisor.changed.wait()
        return self._look.health()

    async def _do_reload(self, ask: Ask) -> ReloadReport:
        self._note_order("reload", ask.peer)
        report = await self._reload()
        if not report.anew:
            await self._supervisor.settled()
        return report

    async def _do_stop(self, ask: Ask) -> Stopping:
        self._note_order("stop", ask.peer)
        asyncio.get_running_loop().call_soon(self._stop)
        return Stopping(os.getpid())

    def _named(self, name: str) -> Child:
        child = self._supervisor.child(name)
        if child is None:
            names = list(self._supervisor.state.children)
            near = nearest(name, names)
            advice = f"did you mean {near}?" if near else f"there are: {', '.join(names)}"
            raise NotFound(f"there is no actor {name!r}", advice=advice)
        return child


def _signal_number(name: str) -> int:
    upper = name.upper()
    try:
        return int(signal.Signals[upper if upper.startswith("SIG") else f"SIG{upper}"])
    except KeyError:
        raise UsageError(
            f"there is no signal {name!r}", advice="for example KILL, STOP, SEGV, TERM"
        ) from None
