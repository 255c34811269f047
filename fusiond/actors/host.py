"""Connects an actor: registers it at the router, feeds it calls, keeps its replies until they are acknowledged."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec

from fusiond.actors.base import Actor, Handler, NotBegun
from fusiond.actors.life import Life
from fusiond.errors import BadRequest, Cancelled, FusionError
from fusiond.protocol.envelope import (
    Ack,
    Cancel,
    Chunk,
    Failure,
    HandBack,
    Held,
    Leave,
    Left,
    Refusal,
    Register,
    Reply,
    Request,
    Started,
    Welcome,
    encode,
    failure,
    to_actor,
)
from fusiond.protocol.lifeline import Assign, Drain, Loading, Promote, Ready
from fusiond.transport.ids import current_request
from fusiond.transport.requester import Pending, Requests
from fusiond.transport.sockets import MAX_MESSAGE, Dealer

log = logging.getLogger(__name__)

_LARGEST = MAX_MESSAGE - 4096
_REPLIES = (Chunk, Reply, Failure)  # a tuple: a union would be made anew for each message
_ALONE = 1.0  # seconds to wait for the router's welcome before being ready without it
_AGAIN = 0.05  # seconds until a refused actor registers again: the router may not have been told of it yet
_ANSWERING = 1.0  # seconds that calls under way have to be answered when the actor fails
_LEAVING = 0.25  # seconds to wait for the router to let us go
_LOOKS = 5  # in that time, whether there still is a router
_KEEP = 60.0  # seconds an answer is kept for an acknowledgement that does not come


class Serving:
    """A call being served, and its reply until it is acknowledged; what the handler sees as `Call`."""

    __slots__ = (
        "_due",
        "_host",
        "attempt",
        "body",
        "chunks",
        "ended_at",
        "id",
        "origin",
        "task",
        "terminal",
        "uid",
        "verb",
    )

    def __init__(self, host: Host, header: Request, body: bytes) -> None:
        self._host = host
        self.id = header.id
        self.verb = header.verb
        self.uid = header.uid
        self.origin = header.origin
        self.body = body
        self.attempt = header.attempt
        self._due = host.loop.time() + header.timeout_ms / 1000 if header.timeout_ms else None
        self.chunks: list[bytes] = []
        self.terminal: tuple[bytes, bytes] | None = None
        self.ended_at = 0.0
        self.task: asyncio.Task[bytes] | None = None

    @property
    def remaining(self) -> float | None:
        return None if self._due is None else max(0.0, self._due - self._host.loop.time())

    def emit(self, chunk: bytes) -> None:
        if len(chunk) > _LARGEST:
            raise _too_large(chunk)
        if self.terminal is None:
            self.chunks.append(chunk)
            self._host.send(encode(Chunk(self.id, len(self.chunks) - 1)), chunk)

    def replay(self, offset: int) -> None:
        """Sends again what the asker has not: chunks from `offset` on, and the end if there is one."""
        for number in range(max(0, offset), len(self.chunks)):
            self._host.send(encode(Chunk(self.id, number)), self.chunks[number])
        if self.terminal is not None:
            self._host.send(*self.terminal)

    def end(self, result: bytes | FusionError) -> None:
        """The one terminal reply."""
        if self.terminal is not None:
            return
        if isinstance(result, bytes) and len(result) > _LARGEST:
            result = _too_large(result)
        if isinstance(result, FusionError):
            self.terminal = encode(failure(self.id, result, self.attempt)), b""
        else:
            self.terminal = encode(Reply(self.id, self.attempt, len(self.chunks))), result
        self.ended_at = self._host.loop.time()
        self.body = b""
        self._host.send(*self.terminal)


class Host:
    """One actor's connection to the tree; what the actor sees as `Port`."""

    def __init__(self, actor: Actor, assign: Assign, lifeline: socket.socket, dealer: Dealer) -> None:
        self.loop = asyncio.get_running_loop()
        self.name = assign.name
        self._generation = assign.generation
        self._assign = assign
        self._actor = actor
        self._verbs: dict[str, Handler] = {"ping": lambda call: call.body, **actor.verbs}
        self._serving: dict[bytes, Serving] = {}
        self._running = 0
        self._welcomed = asyncio.Event()
        self._drained = asyncio.Event()
        self._left = asyncio.Event()
        self._handed_back = 0
        self._draining = False
        self._failure: FusionError | None = None
        self._set_up = False
        self._promoted = asyncio.Event()
        self._dealer = dealer
        self._requests = Requests(self.send)
        self._life = Life(lifeline, assign.heartbeat_interval_ms, self._word)
        self._life.in_flight = lambda: self._running
        self._life.children = actor.children

    async def run(self) -> None:
        """Sets the actor up, serves until drained. Raises what the actor's `setup` raises, and what it fails with."""
        await self._actor.setup(self)
        self._set_up = True
        if self._assign.standby:
            self._life.say(Ready())
            await asyncio.wait(
                {asyncio.ensure_future(e.wait()) for e in (self._promoted, self._drained)},
                return_when=asyncio.FIRST_COMPLETED,
            )
        if not self._draining:
            self._dealer.attend(self._deliver, self._register)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._welcomed.wait(), _ALONE)
            self._life.say(Ready())
            self.loop.call_later(_KEEP, self._sweep)
            await self._drained.wait()
            await self._leave()
        await self._actor.teardown()
        self._dealer.close(linger_ms=200)
        if self._failure is not None:
            raise self._failure

    async def _leave(self) -> None:
        """Returns when the router has taken all that we said and sends us nothing more, or does not answer."""
        handed_back = -1
        while handed_back != self._handed_back:
            handed_back = self._handed_back
            self._left.clear()
            self.send(encode(Leave()), b"")
            for _ in range(_LOOKS):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._left.wait(), _LEAVING / _LOOKS)
                if self._left.is_set() or not self._dealer.connected:
                    break

    # --- Port --------------------------------------------------------------------------------------------------------

    async def request(
        self, service: str, verb: str, body: bytes, *, timeout: float | None = None, repeatable: bool = True
    ) -> bytes:
        return await self._requests.open(service, verb, body, timeout, repeatable, None).result()

    def stream(
        self, service: str, verb: str, body: bytes, *, timeout: float | None = None, repeatable: bool = True
    ) -> Pending:
        return self._requests.open(service, verb, body, timeout, repeatable, None)

    async def loading(self) -> None:
        if self._set_up:  # before that the start-up deadline holds anyway
            self._life.say(Loading())
            await asyncio.sleep(0)

    def loaded(self) -> None:
        if self._set_up:
            self._life.say(Ready())

    def fail(self, error: FusionError) -> None:
        if self._failure is None:
            self._failure = error
            self._draining = True  # what comes now is for the next of us
            self.loop.call_later(_ANSWERING if self._running else 0, self._drained.set)

    # --- connection --------------------------------------------------------------------------------------------------

    def _register(self) -> None:
        self._welcomed.clear()
        holds = [Held(id, serving.terminal is not None) for id, serving in self._serving.items()]
        self.send(encode(Register(self.name, self._generation, holds)), b"")

    def send(self, header: bytes, body: bytes) -> bool:
        return self._dealer.send(header, body)

    def _deliver(self, frame: bytes, body: bytes) -> None:
        try:
            header = to_actor.decode(frame)
        except msgspec.DecodeError:
            log.exception("the router sent what is no message")
            return
        if isinstance(header, Request):
            self._request(header, body)
        elif isinstance(header, Ack):
            self._forget(header.ids)
        elif isinstance(header, Cancel):
            self._cancel(header.id)
        elif isinstance(header, Left):
            self._left.set()
        elif isinstance(header, Welcome):
            self._welcomed.set()
            self._requests.resend()
        elif isinstance(header, Refusal):
            log.warning("the router refuses us: %s", header.message)
            self.loop.call_later(_AGAIN, self._register)
        elif isinstance(header, _REPLIES):
            self._requests.deliver(header, body)

    # --- serving -----------------------------------------------------------------------------------------------------

    def _request(self, header: Request, body: bytes) -> None:
        if known := self._serving.get(header.id):
            known.replay(header.offset)
            return
        serving = self._serving[header.id] = Serving(self, header, body)
        handler = self._verbs.get(header.verb)
        if handler is None:
            serving.end(BadRequest(f"{header.service} has no verb {header.verb!r}"))
        elif self._draining:
            self._hand_back(header.id)
        else:
            token = current_request.set(serving.origin)
            self._handle(serving, handler, header.repeatable)
            current_request.reset(token)
        self._forget(header.acks)  # after the answer: somebody waits for that

    def _handle(self, serving: Serving, handler: Handler, repeatable: bool) -> None:
        log.debug("%s begins, attempt %d", serving.verb, serving.attempt)
        if not repeatable:
            self.send(encode(Started(serving.id)), b"")
        try:
            outcome = handler(serving)
        except Exception as error:
            serving.end(_translated(error, serving))
            return
        if isinstance(outcome, bytes):
            self._life.progress += 1
            serving.end(outcome)
            return
        if repeatable:
            self.send(encode(Started(serving.id)), b"")
        self._running += 1
        serving.task = self.loop.create_task(_awaited(outcome))
        serving.task.add_done_callback(lambda task: self._done(serving, task))

    def _done(self, serving: Serving, task: asyncio.Task[bytes]) -> None:
        log.debug("%s ends", serving.verb)
        self._running -= 1
        self._life.progress += 1
        if task.cancelled():
            serving.end(Cancelled("cancelled"))
        elif (
            isinstance(error := task.exception(), NotBegun)
            and not serving.chunks
            and serving.terminal is None
        ):
            self._hand_back(serving.id)
        elif error:
            serving.end(_translated(error, serving))
        else:
            serving.end(task.result())
        if self._draining and not self._running:
            self._drained.set()

    def _hand_back(self, id: bytes) -> None:
        del self._serving[id]
        self._handed_back += 1
        self.send(encode(HandBack(id)), b"")

    def _cancel(self, id: bytes) -> None:
        serving = self._serving.get(id)
        if serving is None:
            self.send(encode(failure(id, Cancelled("cancelled"))), b"")
            return
        if serving.terminal is not None:
            self.send(*serving.terminal)  # what confirms it has been lost on the way
            return
        serving.end(Cancelled("cancelled"))  # confirms at once; the task may still have something to record
        if serving.task is not None:
            serving.task.cancel()

    def _forget(self, ids: list[bytes]) -> None:
        for id in ids:
            if (serving := self._serving.get(id)) is not None and serving.terminal is not None:
                del self._serving[id]

    def _sweep(self) -> None:
        old = self.loop.time() - _KEEP
        self._forget(
            [id for id, serving in self._serving.items() if serving.terminal and serving.ended_at < old]
        )
        self.loop.call_later(_KEEP, self._sweep)

    # --- the supervisor's words --------------------------------------------------------------------------------------

    def _word(self, word: Any) -> None:
        if isinstance(word, Drain):
            self._draining = True
            self._actor.drain()
            if not self._running:
                self._drained.set()
        elif isinstance(word, Promote):
            self.name, self._generation = word.name, word.generation
            self._promoted.set()


def _too_large(body: bytes) -> BadRequest:
    return BadRequest(f"the answer has {len(body):,} bytes, at most {_LARGEST:,} fit into a message")


async def _awaited(outcome: Awaitable[bytes]) -> bytes:
    return await outcome


def _translated(error: BaseException, serving: Serving) -> FusionError:
    if isinstance(error, FusionError):
        return error
    log.error("%s failed", serving.verb, exc_info=error)
    return FusionError(f"internal error: {type(error).__name__}: {error}", advice="see fusionctl logs")


async def serve(
    create: Callable[[bytes], Actor], assign: Assign, lifeline: socket.socket, dealer: Dealer
) -> None:
    """Runs one actor until it is drained. `dealer`: its connection to the router."""
    await Host(create(assign.config), assign, lifeline, dealer).run()
