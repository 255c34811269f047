"""What an actor is: a service with verbs, some of them quick, some of them long.

An actor's module has `create(config: bytes) -> Actor`; `config` is the msgpack of the struct that the module expects.
The host (`fusiond.actors.host`) connects it, beats for it, feeds it calls and sends its replies.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from fusiond.errors import BadRequest, FusionError
from fusiond.protocol.envelope import UNDECODABLE

Ask = TypeVar("Ask")

Handler = Callable[["Call"], "bytes | Awaitable[bytes]"]
"""Answers one call. A plain function answers at once, in the loop; a coroutine function runs beside others.

What it raises becomes the failure of the call: a `FusionError` as it is, anything else as an internal error.
"""


class Call(Protocol):
    """One request, as its handler sees it."""

    id: bytes
    verb: str
    body: bytes
    uid: int
    attempt: int

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline, None without one."""

    def emit(self, chunk: bytes) -> None:
        """Sends the next piece of the reply's stream."""


class Stream(Protocol):
    """The reply to a streamed request: iterate over its chunks, then take `result`.

    `attempt`: how often it was given to an actor; 1 unless one died with it.
    """

    @property
    def attempt(self) -> int: ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def result(self) -> bytes:
        """The terminal reply's body; raises the `FusionError` it carries. Waits for it if need be."""

    def cancel(self) -> None:
        """Takes the request back."""


class NotBegun(Exception):
    """Raised by a handler: nothing has been done, and the actor is about to end. The next one is asked instead."""


class Port(Protocol):
    """What the host offers its actor."""

    name: str

    async def request(
        self, service: str, verb: str, body: bytes, *, timeout: float | None = None, repeatable: bool = True
    ) -> bytes:
        """Asks another service; raises the `FusionError` of a failure. Cancelling the waiting task cancels the call."""

    def stream(
        self, service: str, verb: str, body: bytes, *, timeout: float | None = None, repeatable: bool = True
    ) -> Stream:
        """Asks another service for a streamed reply."""

    async def loading(self) -> None:
        """Call before something that blocks the loop for long; the start-up deadline holds until `loaded`."""

    def loaded(self) -> None:
        """The loop is free again."""

    def fail(self, error: FusionError) -> None:
        """What the actor needs has gone: it is to be replaced. Calls under way get a moment to be answered."""


class Actor:
    """An actor with nothing to do. Subclasses fill `verbs` and, where they hold something, `setup` and `teardown`."""

    verbs: Mapping[str, Handler] = {}

    async def setup(self, port: Port) -> None:
        """Makes the actor able to serve; it is ready when this returns. What it raises is shown as why it failed."""

    def children(self) -> list[int]:
        """The pids of the processes that it has started itself and that serve it, for `health`."""
        return []

    def drain(self) -> None:
        """It is to end as soon as the calls under way have: nothing new comes."""

    async def teardown(self) -> None:
        """Lets go of what `setup` took. Called on a graceful end only."""


def decoded(decode: Callable[[bytes], Ask], call: Call) -> Ask:
    """The body of a call. Raises BadRequest for one that is nothing of the kind."""
    try:
        return decode(call.body)
    except UNDECODABLE as error:
        raise BadRequest(f"{call.verb} does not understand its request: {error}") from error
