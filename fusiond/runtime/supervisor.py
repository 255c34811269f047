"""The supervisor: feeds what happens to the policy and performs what it decides. One thread, one event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import time
from collections import deque
from contextlib import suppress
from typing import Any

from fusiond.protocol.lifeline import (
    Aftermath,
    Announce,
    Assign,
    Beat,
    Commit,
    Drain,
    Failed,
    Gone,
    Loading,
    Notice,
    Peer,
    Ready,
    Stuck,
)
from fusiond.runtime import linux, tree
from fusiond.runtime.journal import Journal
from fusiond.runtime.logs import Logs
from fusiond.runtime.processes import Exit, Process, Processes
from fusiond.runtime.recovery import Recovery
from fusiond.runtime.tree import Part
from fusiond.supervision import effects, events, policy
from fusiond.supervision.spec import Limits
from fusiond.supervision.state import Child, Supervision

log = logging.getLogger(__name__)

_MCP_PATIENCE = 3.0  # seconds that a start waits for MCP servers: nobody else needs them
_YOUNG = 10.0  # seconds for which a process may be as large as it likes
_BY_HAND = {"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"}
"""Signals by which people end processes: no fault of the request that was at work (but see the kernel's oom_kill)."""


class Supervisor:
    """Keeps `parts` alive. `listeners`: the sockets that the router serves, for clients and for actors."""

    def __init__(
        self,
        parts: dict[str, Part],
        *,
        limits: Limits,
        listeners: tuple[socket.socket, socket.socket],
        actors_endpoint: str,
        journal: Journal,
        logs: Logs,
        log_level: str,
        forkserver: Process | None = None,
    ) -> None:
        self.parts = parts
        self.journal = journal
        self.state = Supervision(limits=limits)
        self.recoveries: list[Recovery] = []
        self.finished = asyncio.Event()
        self.changed = asyncio.Event()
        self._listeners = listeners
        self._log_level = log_level
        self._loop = asyncio.get_running_loop()
        self._queue: deque[events.Event] = deque()
        self._working = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at: float | None = None
        self._live: dict[str, Process] = {}
        self._introduced: Process | None = None  # the router that has been told who lives
        self._oom_kills = linux.oom_kills()
        self.processes = Processes(
            on_word=self._word,
            on_exit=self._exit,
            on_stopped=self._stopped,
            on_assigned=self._assigned,
            on_failed=lambda name, generation, why: self.feed(events.SpawnFailed(name, generation, why)),
            logs=logs,
            endpoint=actors_endpoint,
            forkserver=forkserver,
        )

    # --- the door ----------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Starts everything."""
        self.feed(events.Boot(tuple(part.spec for part in self.parts.values())))

    def reconfigure(self, parts: dict[str, Part], limits: Limits, log_level: str) -> list[str]:
        """Replaces what changed and nothing else; returns the names of what did."""
        before = {name: part.spec.fingerprint for name, part in self.parts.items()}
        self.parts, self._log_level = parts, log_level
        self.feed(events.Reconfigured(tuple(part.spec for part in parts.values()), limits))
        return [name for name, part in parts.items() if before.get(name) != part.spec.fingerprint]

    def recycle(self) -> None:
        """Replaces, gracefully, every process that has become larger than it may."""
        for name, part in self.parts.items():
            child, process = self.state.children.get(name), self._live.get(name)
            if (
                not part.max_rss
                or child is None
                or process is None
                or child.state not in ("ready", "standby")
            ):
                continue
            if child.cause is not None or self._loop.time() - child.spawned_at < _YOUNG:
                continue  # one that is too large from the start is not to do nothing but begin
            if (rss := linux.rss(process.pid)) > part.max_rss:
                detail = f"{rss / 1e6:.0f} MB, more than {part.max_rss / 1e6:.0f} MB"
                self.feed(events.RestartAsked(name, "rss", detail))

    def feed(self, event: events.Event) -> None:
        """One thing that happened, or was asked for."""
        self._queue.append(event)
        if self._working:
            return
        self._working = True
        quiet = True
        while self._queue:
            event = self._queue.popleft()
            try:
                quiet = self._step(event) and quiet
            except Exception:  # a fault of ours must not end the supervision of everybody else
                log.exception("%r could not be dealt with", event)
        self._working = False
        if not quiet or self._alarm is None:
            self._set_alarm()

    def _step(self, event: events.Event) -> bool:
        """Returns whether it was a heartbeat like any other, which only puts the next look off."""
        now = self._loop.time()
        self.state, todo = policy.step(self.state, event, now, random.random())  # noqa: S311 — jitter
        for effect in todo:
            try:
                self._perform(effect)
            except Exception as error:  # the effects after it are due all the same
                log.exception("%r could not be performed", effect)
                if isinstance(effect, effects.Spawn):
                    self.feed(
                        events.SpawnFailed(effect.name, effect.generation, f"it cannot be started: {error}")
                    )
        if todo:
            self.changed.set()
            self.changed = asyncio.Event()
        return isinstance(event, events.Beat) and not todo

    def _set_alarm(self) -> None:
        wake = policy.next_wake(self.state)
        if wake is None or (self._alarm_at is not None and self._alarm_at <= wake):
            return  # an alarm that rings too early costs one look and sets the next
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = wake
        self._alarm = self._loop.call_at(wake, self._ring)

    def _ring(self) -> None:
        assert self._alarm_at is not None
        late = max(0.0, self._loop.time() - self._alarm_at)
        self._alarm = self._alarm_at = None
        self.feed(events.Tick(late))

    # --- effects -----------------------------------------------------------------------------------------------------

    def _perform(self, effect: effects.Effect) -> None:
        if isinstance(effect, effects.Spawn):
            self._spawn(effect.name, effect.generation)
        elif isinstance(effect, effects.Signal):
            number = signal.SIGKILL if effect.signal == "KILL" else signal.SIGTERM
            self._signal(effect.name, effect.generation, number)
        elif isinstance(effect, effects.Dump):
            if self.process(effect.name, effect.generation):
                line = "no sign of life; the stacks of its threads follow, then it is killed"
                self.processes.logs.note(effect.name, line)
            self._signal(effect.name, effect.generation, linux.DUMP_SIGNAL)
        elif isinstance(effect, effects.Drain):
            self._drain(effect.name, effect.generation)
        elif isinstance(effect, effects.Promote):
            self._promote(effect.name, effect.generation, effect.standby)
        elif isinstance(effect, effects.Record):
            self._record(effect)
        elif isinstance(effect, effects.Finished):
            self.processes.close()
            self.finished.set()

    def _spawn(self, name: str, generation: int) -> None:
        part = self.parts[name]
        interval = int(part.spec.heartbeat_interval_s * 1000)
        try:
            assign = Assign(
                name=name,
                kind=part.spec.kind,
                service=part.spec.service,
                generation=generation,
                heartbeat_interval_ms=interval,
                config=part.config,
                log_level=self._log_level,
                journal=self.processes.logs.journal is not None,
                standby=part.spec.standby_for is not None,
            )
            if part.spec.kind == "forkserver":
                self._assigned(self.processes.start_forkserver(assign))
                return
            fds = [listener.fileno() for listener in self._listeners] if name == tree.ROUTER else []
            self.processes.forget(name)
            self.processes.start(assign, fds)
        except OSError as error:
            self.feed(events.SpawnFailed(name, generation, f"no process could be made: {error}"))

    def _assigned(self, process: Process) -> None:
        """A process is about to learn what it is."""
        name, generation = process.name, process.generation
        self._live[name] = process
        if name == tree.ROUTER:
            self._loop.call_soon(self._introduce, process)  # its own assignment is the first word it hears
        elif process.service and not process.standby:
            self._tell_router(Announce([_peer(process)]))
        for recovery in self._recoveries(name):
            recovery.mark_respawned(process.pid)
        self.feed(events.Spawned(name, generation, process.pid))

    def _peers(self) -> list[Peer]:
        return [_peer(each) for each in self._live.values() if each.service and not each.standby]

    def _introduce(self, router: Process) -> None:
        """Tells a new router who lives; from then on it hears of every change."""
        if self._live.get(tree.ROUTER) is router:
            self._introduced = router
            router.say(Announce(self._peers(), whole=True))
            for child in self.state.children.values():
                if child.state == "failed":
                    self._tell_router_of_failure(child)

    def _tell_router(self, word: Any) -> None:
        if (router := self._live.get(tree.ROUTER)) is not None and router is self._introduced:
            router.say(word)

    def _tell_router_of_failure(self, child: Child) -> None:
        """So that nobody waits for what will not come."""
        if child.spec.service and child.spec.standby_for is None and child.last_exit is not None:
            self._tell_router(Failed(child.spec.service, child.last_exit.detail))

    def process(self, name: str, generation: int | None = None) -> Process | None:
        """The live process of an actor, of this generation if one is given."""
        process = self._live.get(name)
        return process if process and generation in (None, process.generation) else None

    def _signal(self, name: str, generation: int, number: int) -> None:
        if process := self.process(name, generation):
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)
            if number == signal.SIGKILL:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, number)

    def _drain(self, name: str, generation: int) -> None:
        if process := self.process(name, generation):
            if name != tree.ROUTER:
                self._tell_router(Drain(name, generation))
            process.say(Drain())

    def _promote(self, name: str, generation: int, standby: str) -> None:
        process = self._live[name] = self._live.pop(standby)
        self._tell_router(Announce([Peer(name, generation, process.pid, process.service)]))
        self.processes.promote(process, name, generation)
        for recovery in self._recoveries(name):
            recovery.mark_respawned(process.pid)

    def _record(self, effect: effects.Record) -> None:
        for recovery in self._recoveries(effect.actor):
            if effect.kind in ("missed", "exited"):
                recovery.mark_noticed()
            elif effect.kind in ("failed", "stopped", "backed_off"):
                recovery.done.set()
        if effect.kind == "failed":
            # after the word that its last process is gone
            self._loop.call_soon(self._tell_router_of_failure, self.state.children[effect.actor])
        self.journal.record(
            effect.kind,
            effect.actor,
            pid=effect.pid,
            generation=effect.generation,
            detail=effect.detail,
            ms=effect.ms,
        )

    # --- what processes say and what becomes of them -----------------------------------------------------------------

    def _word(self, process: Process, word: Any) -> None:
        name, generation = process.name, process.generation
        if isinstance(word, Beat):
            self.feed(events.Beat(name, generation))
        elif isinstance(word, Ready):
            process.ready = True
            for recovery in self._recoveries(name):
                recovery.mark_ready()
            self.feed(events.Ready(name, generation))
        elif isinstance(word, Loading):
            self.feed(events.Loading(name, generation))
        elif isinstance(word, Stuck):
            self.feed(events.StuckReported(word.name, word.generation))
        elif isinstance(word, Aftermath):
            for recovery in self._recoveries(word.name):
                recovery.requests = word.requests
            for kind in ("redispatched", "resumed", "failed"):
                if count := getattr(word.requests, kind):
                    self.journal.record(
                        kind, word.name, generation=word.generation, detail=f"{count} requests"
                    )
        elif isinstance(word, Notice):
            self.journal.record(word.kind, word.actor, pid=process.pid, detail=word.detail, uid=word.uid)

    def _exit(self, exit: Exit) -> None:
        process = exit.process
        name, generation = process.name, process.generation
        if self._live.get(name) is process:
            del self._live[name]
        by_hand = bool(self._recoveries(name)) or self._ended_by_hand(name)
        self.feed(
            events.Exited(
                name,
                generation,
                "signal" if exit.by_signal else "exit",
                exit.detail,
                exit.normal,
                "" if exit.normal or exit.by_signal else self.processes.last_words(process),
            )
        )
        # only now that the replacement has its orders: who is to blame takes a while to find out
        if name != tree.ROUTER:
            self._tell_router(Gone(name, generation, self._blamed(exit, by_hand)))

    def _blamed(self, exit: Exit, by_hand: bool) -> bool:
        """Whether the process ended by its own doing, so that what it worked on may be the cause."""
        killed, self._oom_kills = self._oom_kills, linux.oom_kills()
        if exit.detail == "SIGKILL" and self._oom_kills > killed:
            return True
        if by_hand or exit.normal:
            return False
        child = self.state.children.get(exit.process.name)
        hung = (
            child is not None and child.last_exit is not None and child.last_exit.reason in ("hung", "stuck")
        )
        return hung or exit.detail not in _BY_HAND

    def _ended_by_hand(self, name: str) -> bool:
        """It was asked to end, or somebody had stopped it."""
        child = self.state.children.get(name)
        cause = child.cause if child else None
        return cause is not None and (cause.polite or cause.detail == "stopped by a signal")

    def _recoveries(self, name: str) -> list[Recovery]:
        """The kills of this actor that somebody is waiting to see made good."""
        return [recovery for recovery in self.recoveries if recovery.actor == name]

    def _stopped(self, process: Process) -> None:
        self.feed(events.StopSeen(process.name, process.generation))

    # --- orders ------------------------------------------------------------------------------------------------------

    def child(self, name: str) -> Child | None:
        return self.state.children.get(name)

    def commit_fault(self, name: str, fault: Any) -> None:
        """Makes an actor commit a fault."""
        if process := self.process(name):
            process.say(Commit(fault))

    async def settled(self) -> None:
        """Waits until every actor is ready, standing by, stopped or has failed; for MCP servers a while only."""
        until = self._loop.time() + _MCP_PATIENCE
        while unsettled := [
            child
            for child in self.state.children.values()
            if child.state in ("starting", "draining", "backoff")
        ]:
            others = any(child.spec.kind != "mcp" for child in unsettled)
            try:
                async with asyncio.timeout_at(None if others else until):
                    await self.changed.wait()
            except TimeoutError:
                return

    @property
    def stopping(self) -> bool:
        return self.state.phase != "running"

    def status(self) -> str:
        """In one line, how the tree is: healthy, or who is not."""
        bad = [f"{name} is in {child.state}" for name, child in self.state.children.items() if child.degraded]
        return f"degraded: {', '.join(bad)}" if bad else "healthy"

    def shut_down(self) -> None:
        """Ends everything, gracefully; `finished` is set when nothing is left."""
        self.feed(events.Shutdown())


def _peer(process: Process) -> Peer:
    return Peer(process.name, process.generation, process.pid, process.service, process.ready)


def wall_clock(monotonic: float) -> float:
    """Seconds since the epoch for a time on the loop's clock."""
    return time.time() - time.monotonic() + monotonic
