"""The client for programs; the commands use it too.

    async with Client() as fusion:
        answer = await fusion.chat("What is the capital of France?")
        print(answer.text)

The daemon is found, or started, at the first request that needs it. What is asked outlives the death of any
of the daemon's processes and of the daemon itself: it is asked again, and the same question is recorded once.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from fusionctl import autostart
from fusionctl.answer import Answer, ChatStream
from fusionctl.approving import Approve
from fusionctl.autostart import Notice
from fusionctl.crew import Crew
from fusionctl.link import DaemonGone, Link, off_loop
from fusiond.errors import MAX_DEATHS, Crashed, Interrupted, PoisonRequest, Unreachable
from fusiond.protocol import sessions as store
from fusiond.protocol.chat import ChatRequest
from fusiond.protocol.control import Event, Fault, Health, Kill, KillReport, ReloadReport, Restart, Stopping

__all__ = ["Answer", "ChatStream", "Client"]

T = TypeVar("T")


def _to_stderr(line: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(line + "\n")


class Client(Crew):
    """A connection to fusiond. Every method raises a `FusionError` that says what is wrong and what to do.

    `home`: the daemon of that folder, and no other. `autostart`: start a daemon where none runs, and replace
    one that hangs; `health`, `stop`, `kill`, `events` never do. `notice`: is told what was started or killed,
    in one line.
    """

    def __init__(
        self,
        home: str | os.PathLike[str] | None = None,
        *,
        autostart: bool = True,
        notice: Notice = _to_stderr,
    ) -> None:
        self._home = None if home is None else os.fspath(home)
        self._autostart = autostart
        self._notice = notice
        self._link: Link | None = None
        self._reaching = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Takes back what is open."""
        if self._link is not None:
            await self._link.close()
            self._link = None

    # --- conversations --------------------------------------------------------------------------------------

    def stream(
        self,
        prompt: str,
        *,
        system: str | None = None,
        model: str = "",
        session: str = "",
        last: bool = False,
        agent: str = "",
        options: Mapping[str, Any] | None = None,
        schema: dict[str, Any] | None = None,
        timeout: float | None = None,
        turn: str = "",
        approve: Approve | None = None,
        approve_all: bool = False,
        on_note: Callable[[str], None] | None = None,
    ) -> ChatStream:
        """Asks; iterate over the chunks, then read `answer`.

        `model`: `provider/name`, "" for the session's or the default. `session`: its id, "" begins one;
        `last`: go on with the one used last. `schema`: a JSON schema the answer satisfies. `timeout` in
        seconds. `turn`: 32 hex digits that name this turn, to ask it again without recording it twice; ""
        makes one. `agent`: who is to answer; then `approve` is asked about calls that need a person's word,
        unless `approve_all` says yes to them all, and `on_note` is told what the agent does.
        """
        request = ChatRequest(
            prompt=prompt,
            system=system,
            model=model,
            session=session,
            last=last,
            agent=agent,
            options=dict(options or {}),
            schema=schema,
            turn=turn,
            approve_all=approve_all,
        )
        return ChatStream(self._reach, request, timeout, approve, on_note)

    async def chat(self, prompt: str, **options: Any) -> Answer:
        """Asks and waits for the whole answer. Options as for `stream`."""
        stream = self.stream(prompt, **options)
        async for _ in stream:
            pass
        return stream.answer

    async def sessions(self, limit: int = 100) -> list[store.SessionSummary]:
        """The newest sessions."""
        return await self._ask(
            "store", "sessions.list", store.ListSessions(limit), list[store.SessionSummary]
        )

    async def session(self, id: str) -> store.SessionDetail:
        """One session with its messages, by its id or the beginning of it."""
        return await self._ask("store", "sessions.show", store.SessionId(id), store.SessionDetail)

    async def delete_session(self, id: str) -> store.SessionSummary:
        """Deletes a session; returns what it was."""
        return await self._ask("store", "sessions.delete", store.SessionId(id), store.SessionSummary)

    async def search_sessions(self, words: str, limit: int = 100) -> list[store.SessionSummary]:
        """The sessions in which every one of `words` occurs."""
        return await self._ask(
            "store", "sessions.search", store.SearchSessions(words, limit), list[store.SessionSummary]
        )

    async def ping(self, service: str, body: bytes = b"") -> bytes:
        """The echo of `body` from an actor of `service`, through the router and the actor's loop."""
        return await self.request(service, "ping", body)

    async def request(
        self,
        service: str,
        verb: str,
        body: bytes = b"",
        *,
        timeout: float | None = None,
        repeatable: bool = True,
    ) -> bytes:
        """Any public verb; returns the reply's body.

        Asked again if the daemon dies meanwhile and it is `repeatable`.
        """
        while True:
            link = await self._reach()
            try:
                return await link.answer(
                    link.router.request(service, verb, body, timeout=timeout, repeatable=repeatable)
                )
            except DaemonGone:
                if not repeatable:
                    raise Unreachable(
                        "the daemon died while it worked on this; whether it was done is not known"
                    ) from None

    async def follow(self, service: str, verb: str, body: bytes) -> AsyncGenerator[tuple[bytes, bool], None]:
        """A public verb that streams: each chunk, then the reply's body, marked as the last.

        Asked again, and so perhaps told again, whenever the process that answers or the daemon dies. Raises
        PoisonRequest when that happens again and again and nothing new is told in between.
        """
        furthest = deaths = 0
        while True:
            told = 0
            link = await self._reach()
            stream = link.router.stream(service, verb, body)
            try:
                async with aclosing(link.chunks(stream)) as chunks:
                    async for chunk in chunks:
                        told += 1
                        yield chunk, False
                yield await link.answer(stream.result()), True
                return
            except DaemonGone:
                continue
            except Interrupted as error:
                deaths = deaths + isinstance(error, Crashed) if told <= furthest else 0
                furthest = max(furthest, told)
                if deaths == MAX_DEATHS:
                    raise PoisonRequest(f"this request ended {deaths} processes of {service}") from error
                await asyncio.sleep(error.retry_after or 0)
            finally:
                stream.cancel()

    async def _ask(self, service: str, verb: str, body: msgspec.Struct, reply: type[T]) -> T:
        return msgspec.msgpack.decode(
            await self.request(service, verb, msgspec.msgpack.encode(body)), type=reply
        )

    # --- the tree -------------------------------------------------------------------------------------------

    async def health(self) -> Health:
        """The state of the whole tree. Never starts a daemon."""
        return await self._control("health", b"", Health, start=False)

    async def kill(self, actor: str, signal: str = "KILL", fault: Fault | None = None) -> KillReport:
        """Sends `signal` to an actor, or makes it commit `fault`; returns its recovery, measured."""
        return await self._control(
            "kill", msgspec.msgpack.encode(Kill(actor, signal, fault)), KillReport, start=False
        )

    async def restart(self, actor: str | None = None) -> Health:
        """Replaces one actor gracefully, or all; returns when the replacements are ready."""
        return await self._control("restart", msgspec.msgpack.encode(Restart(actor)), Health)

    async def reload(self) -> ReloadReport:
        """Reads the configuration again; a bad one changes nothing and raises `ConfigError`."""
        return await self._control("reload", b"", ReloadReport)

    async def stop(self) -> Stopping:
        """Asks the daemon to drain and end; returns at once."""
        return await self._control("stop", b"", Stopping, start=False)

    async def events(self) -> AsyncIterator[Event]:
        """What happens from now on, without end. Raises `Unreachable` when the daemon ends."""
        link = await self._reach(start=False)
        stream = link.control.stream("supervisor", "events")
        try:
            async for body in link.chunks(stream):
                yield msgspec.json.decode(body, type=Event)
            await stream.result()
        except DaemonGone:
            raise Unreachable("the daemon ended") from None
        finally:
            stream.cancel()

    async def _control(self, verb: str, body: bytes, reply: type[T], *, start: bool = True) -> T:
        link = await self._reach(start=start)
        try:
            answer = await link.answer(link.control.request("supervisor", verb, body, repeatable=False))
        except DaemonGone:
            raise Unreachable(f"the daemon ended before it answered '{verb}'") from None
        return msgspec.msgpack.decode(answer, type=reply)

    # --- the daemon -----------------------------------------------------------------------------------------

    async def _reach(self, *, start: bool = True) -> Link:
        """The link to a daemon that lives.

        One that has died under us is looked for again, or started again.
        """
        async with self._reaching:
            if self._link is not None and not self._link.gone:
                return self._link
            lost, self._link = self._link, None
            allowed, notice = self._autostart and start, self._in_loop()
            if lost is None:
                daemon = await off_loop(lambda: autostart.reach(self._home, autostart=allowed, notice=notice))
            else:
                await lost.close()
                daemon = await off_loop(
                    lambda: autostart.returned(lost.daemon, autostart=allowed, notice=notice)
                )
            self._link = Link(daemon, watch=self._autostart, notice=notice)
            return self._link

    def _in_loop(self) -> Notice:
        """`notice` for other threads: it is told in the loop's, between two steps of whoever writes there."""
        loop = asyncio.get_running_loop()

        def tell(line: str) -> None:
            with suppress(RuntimeError):  # the loop has closed meanwhile
                loop.call_soon_threadsafe(self._notice, line)

        return tell
