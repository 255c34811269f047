"""An answer as it grows, and the limits of time that hold for it."""

from __future__ import annotations

import asyncio
from types import TracebackType

from fusiond.errors import DeadlineExceeded, FusionError, Interrupted, ProviderDown
from fusiond.protocol.chat import Completion, CompletionChunk, CompletionRequest, Usage
from fusiond.providers.base import Emit
from fusiond.providers.settings import Limits


class Answer:
    """What has arrived of the answer to one request, over all times the API was asked for it.

    `continues`: the API goes on from `request.prefix`; otherwise the answer begins anew, and the first piece says so.
    """

    def __init__(self, request: CompletionRequest, emit: Emit, *, continues: bool) -> None:
        self.asked = 0
        self.started = False
        self.finish_reason: str | None = None
        self.usage = Usage()
        self._prefix = request.prefix if continues else ""
        self._parts: list[str] = []
        self._emit = emit
        self._stream = request.stream
        self._reset = bool(request.prefix) and not continues

    @property
    def empty(self) -> bool:
        """Nothing new has arrived."""
        return not self._parts

    def grow(self, text: str) -> None:
        """Takes the next piece, and passes it on."""
        self._parts.append(text)
        if self._stream:
            self.started = True
            self._emit(CompletionChunk(text, self._reset))
            self._reset = False

    def whole(self, text: str) -> None:
        """Takes a whole reply; one that continues a prefix may repeat it."""
        self.grow(text.removeprefix(self._prefix) if self._prefix else text)

    def completion(self, model: str) -> Completion:
        """The answer as it is now. An empty one that voids what came before still says so."""
        if self._stream and self._reset:
            self._emit(CompletionChunk("", reset=True))
        text = self._prefix + "".join(self._parts)
        return Completion(
            text=text, model=model, finish_reason=self.finish_reason, usage=self.usage, asked=self.asked
        )


class Patience:
    """Holds an API to `limits` while it answers one request; use as a context, and call `token` at each sign of life.

    Raises DeadlineExceeded when the total is up; for a stream ProviderDown when no token came at all, Interrupted when
    no further one did. Times are those of the running loop.
    """

    def __init__(self, limits: Limits, answer: Answer, name: str, *, stream: bool) -> None:
        self._limits = limits
        self._answer = answer
        self._name = name
        self._now = asyncio.get_running_loop().time
        begun = self._now()
        self._end = begun + limits.total
        self._due = min(self._end, begun + limits.first_token) if stream else self._end
        self._allowed = limits.first_token
        self._timeout = asyncio.timeout_at(self._due)

    def token(self) -> None:
        """A token has arrived: the next one has `idle` seconds."""
        self._allowed = self._limits.idle
        self._due = min(self._end, self._now() + self._allowed)
        self._timeout.reschedule(self._due)

    def remaining(self) -> float:
        """Seconds until the limit that holds now."""
        return self._due - self._now()

    async def __aenter__(self) -> Patience:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise self._passed() from None

    def _passed(self) -> FusionError:
        limits, name = self._limits, self._name
        if self._due >= self._end:
            return DeadlineExceeded(f"{name} has not answered within {limits.total:g} s")
        if self._answer.started:
            return Interrupted(f"{name} fell silent in the middle of its answer for {self._allowed:g} s")
        return ProviderDown(f"{name} has sent no token within {self._allowed:g} s", advice="try again later")
