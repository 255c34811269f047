"""One chat's answer as it comes: a stream that outlives whoever produces it.

The text so far is held here. Where the stream breaks (the actor that produced it died, or the whole daemon
did) the same turn is asked again with that text as `prefix`, and goes on where it broke off.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from fusionctl.approving import Approvals, Approve
from fusionctl.link import DaemonGone, Link
from fusiond.errors import (
    MAX_DEATHS,
    Cancelled,
    Crashed,
    DeadlineExceeded,
    Interrupted,
    PoisonRequest,
)
from fusiond.protocol.chat import ChatChunk, ChatReply, ChatRequest, Usage
from fusiond.transport.ids import new_id
from fusiond.transport.requester import Pending

_FRUITLESS = 5
"""How often in a row a stream may break without a single new character before it is given up."""

_encode = msgspec.msgpack.Encoder().encode
_chunk = msgspec.msgpack.Decoder(ChatChunk).decode
_reply = msgspec.msgpack.Decoder(ChatReply).decode


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole answer. `attempts`: how often a model was asked, 1 where nothing went wrong. Times in ms, from
    the asking.

    `ttft_ms`: until the first piece of text came, None if none did. `left_out`: messages of the conversation
    that did not fit into the model's context.
    """

    text: str
    model: str
    session: str
    finish_reason: str | None
    usage: Usage
    attempts: int
    ttft_ms: float | None
    latency_ms: float
    left_out: int = 0


class ChatStream:
    """Iterate over the chunks; `answer` is there after the last. `text` is what has come so far, resets
    applied.

    The chunks together always give the recorded text: where it differs from what came, a last chunk mends it.
    Breaking off the iteration, or `cancel`, takes the question back at the provider.
    """

    def __init__(
        self,
        link: Callable[[], Awaitable[Link]],
        request: ChatRequest,
        timeout: float | None,
        approve: Approve | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self._approvals = Approvals(approve)
        self._on_note = on_note
        self.text = ""
        self.session = request.session
        self._link = link
        self._request = request
        self._turn = request.turn or new_id().hex()
        self._asked = request.asked
        self._pending: Pending | None = None
        self._began = time.monotonic()
        self._due = None if timeout is None else self._began + timeout
        self._first: float | None = None
        self._answer: Answer | None = None
        self._cancelled = False

    @property
    def answer(self) -> Answer:
        """The whole answer; an error before the stream has ended."""
        if self._answer is None:
            raise RuntimeError("the stream has not ended: iterate over it first")
        return self._answer

    @property
    def turn(self) -> str:
        """The turn's name: asking again under it never records the turn twice."""
        return self._turn

    def cancel(self) -> None:
        """Takes the question back; the iteration raises `Cancelled`."""
        self._cancelled = True
        if self._pending is not None:
            self._pending.cancel()

    async def __aiter__(self) -> AsyncGenerator[ChatChunk, None]:
        fruitless = crashes = 0
        while self._answer is None:
            before = self.text
            try:
                async with aclosing(self._ask()) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except DaemonGone:
                self._asked = max(self._asked, 1)  # it may have been; what is not known counts as asked
            except Interrupted as error:
                crashes += isinstance(error, Crashed)
                if crashes == MAX_DEATHS:
                    raise PoisonRequest(f"this question ended {crashes} processes of agent") from error
                fruitless = 0 if self.text != before else fruitless + 1
                if fruitless == _FRUITLESS:
                    raise
                await asyncio.sleep(error.retry_after or 0)

    async def _ask(self) -> AsyncGenerator[ChatChunk, None]:
        """One try: the chunks as they come, and what is missing to the recorded text."""
        if self._cancelled:
            raise Cancelled("cancelled")
        link = await self._link()
        request = msgspec.structs.replace(
            self._request,
            turn=self._turn,
            prefix=self.text,
            asked=self._asked,
            session=self.session,
            approvals=self._approvals.given,
        )
        pending = self._pending = link.router.stream("agent", "chat", _encode(request), timeout=self._left())
        try:
            async with aclosing(link.chunks(pending)) as bodies:
                async for body in bodies:
                    chunk = _chunk(body)
                    if chunk.note and self._on_note is not None:
                        self._on_note(chunk.note)
                    yield self._take(chunk)
            reply = _reply(await link.answer(pending.result()))
        finally:
            pending.cancel()
        self.session = reply.session or self.session
        if reply.approval is not None:
            await self._approvals.ask(reply.approval)
            return  # to be asked again, with the verdict
        if reply.text != self.text:
            begun = reply.text.startswith(self.text)
            rest = reply.text.removeprefix(self.text) if begun else reply.text
            yield self._take(ChatChunk(rest, reset=not begun, session=reply.session, asked=reply.attempts))
        self._end(reply)

    def _take(self, chunk: ChatChunk) -> ChatChunk:
        self.text = chunk.text if chunk.reset else self.text + chunk.text
        self._asked = max(self._asked, chunk.asked)
        self.session = chunk.session or self.session
        if self._first is None and chunk.text:
            self._first = time.monotonic()
        return chunk

    def _end(self, reply: ChatReply) -> None:
        self._answer = Answer(
            text=reply.text,
            model=reply.model,
            session=reply.session,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            attempts=reply.attempts,
            ttft_ms=None if self._first is None else round((self._first - self._began) * 1000, 1),
            latency_ms=round((time.monotonic() - self._began) * 1000, 1),
            left_out=reply.left_out,
        )

    def _left(self) -> float | None:
        """Seconds that are left of the time given."""
        if self._due is None:
            return None
        if (left := self._due - time.monotonic()) <= 0:
            raise DeadlineExceeded("no answer within the deadline")
        return left
