"""The stream that outlives its producers, against a scripted daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import cast

import msgspec
import pytest

from fusionctl.answer import ChatStream
from fusionctl.link import DaemonGone, Link
from fusiond.errors import Busy, Cancelled, DeadlineExceeded, FusionError, Interrupted
from fusiond.protocol.chat import ChatChunk, ChatReply, ChatRequest, Usage

Try = list[ChatChunk | ChatReply | FusionError]


class Stream:
    """What a scripted try answers."""

    def __init__(self, script: Try) -> None:
        self._script = script
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        for step in self._script:
            if isinstance(step, ChatChunk):
                yield msgspec.msgpack.encode(step)
            elif isinstance(step, DaemonGone):
                raise step

    async def result(self) -> bytes:
        end = self._script[-1]
        if isinstance(end, FusionError):
            raise end
        return msgspec.msgpack.encode(end)


class Daemon:
    """Answers each try by the next script; remembers what it was asked. It is link and router in one."""

    def __init__(self, *scripts: Try) -> None:
        self._scripts = list(scripts)
        self.asked: list[ChatRequest] = []
        self.streams: list[Stream] = []
        self.router = self

    def stream(self, service: str, verb: str, body: bytes, *, timeout: float | None) -> Stream:
        assert (service, verb) == ("agent", "chat")
        self.asked.append(msgspec.msgpack.decode(body, type=ChatRequest))
        self.streams.append(Stream(self._scripts.pop(0)))
        return self.streams[-1]

    def chunks(self, stream: Stream) -> AsyncGenerator[bytes, None]:
        return stream.chunks()

    async def answer(self, waiting: asyncio.Future[bytes]) -> bytes:
        return await waiting

    def ask(self, timeout: float | None = None) -> ChatStream:
        async def link() -> Link:
            return cast(Link, self)

        return ChatStream(link, ChatRequest(prompt="Capital of France?"), timeout)


def chunk(text: str, reset: bool = False, asked: int = 1) -> ChatChunk:
    return ChatChunk(text, reset=reset, session="s1", asked=asked)


def reply(text: str, attempts: int = 1) -> ChatReply:
    return ChatReply(
        text=text, model="test/echo", session="s1", finish_reason="stop", usage=Usage(3, 4), attempts=attempts
    )


async def texts(stream: ChatStream) -> list[tuple[str, bool]]:
    return [(chunk.text, chunk.reset) async for chunk in stream]


async def test_chunks_come_as_they_are_and_the_answer_after_the_last() -> None:
    stream = Daemon([chunk("Par"), chunk("is"), reply("Paris")]).ask()
    with pytest.raises(RuntimeError, match="has not ended"):
        _ = stream.answer
    assert await texts(stream) == [("Par", False), ("is", False)]
    answer = stream.answer
    assert (answer.text, answer.model, answer.session, answer.attempts) == ("Paris", "test/echo", "s1", 1)
    assert answer.usage == Usage(3, 4)
    assert answer.ttft_ms is not None
    assert 0 <= answer.ttft_ms <= answer.latency_ms


@pytest.mark.parametrize("error", [Interrupted("llm.0 died"), DaemonGone("the daemon has ended")])
async def test_a_broken_stream_is_asked_again_with_what_is_there(error: FusionError) -> None:
    daemon = Daemon([chunk("Par"), error], [chunk("is", asked=2), reply("Paris", attempts=2)])
    stream = daemon.ask()
    assert await texts(stream) == [("Par", False), ("is", False)]
    assert stream.answer.attempts == 2
    first, second = daemon.asked
    assert (second.prefix, second.asked, second.session) == ("Par", 1, "s1")
    assert first.turn == second.turn
    assert len(first.turn) == 32


async def test_a_daemon_that_dies_before_the_first_chunk_may_have_asked_a_model() -> None:
    daemon = Daemon([DaemonGone("gone")], [reply("Paris")])
    await texts(daemon.ask())
    assert [request.asked for request in daemon.asked] == [0, 1]


async def test_after_a_reset_only_the_new_text_counts() -> None:
    daemon = Daemon(
        [chunk("Lon"), Interrupted("died")], [chunk("Pa", reset=True), Interrupted("died")], [reply("Paris")]
    )
    stream = daemon.ask()
    assert await texts(stream) == [("Lon", False), ("Pa", True), ("ris", False)]
    assert [request.prefix for request in daemon.asked] == ["", "Lon", "Pa"]
    assert stream.text == "Paris"


async def test_what_was_shown_always_ends_as_what_was_recorded() -> None:
    stream = Daemon([chunk("Lyon"), reply("Paris")]).ask()
    assert await texts(stream) == [("Lyon", False), ("Paris", True)]


async def test_a_stream_that_breaks_again_and_again_without_a_word_is_given_up() -> None:
    scripts: list[Try] = [[Interrupted("died")] for _ in range(10)]
    daemon = Daemon(*scripts)
    with pytest.raises(Interrupted):
        await texts(daemon.ask())
    assert len(daemon.asked) == 5


async def test_one_that_gets_further_each_time_is_not() -> None:
    scripts: list[Try] = [[chunk(str(number)), Interrupted("died")] for number in range(9)]
    daemon = Daemon(*scripts, [reply("012345678")])
    await texts(daemon.ask())
    assert len(daemon.asked) == 10


async def test_other_failures_are_the_answer() -> None:
    daemon = Daemon([chunk("Par"), Busy("try later")])
    with pytest.raises(Busy):
        await texts(daemon.ask())
    assert len(daemon.asked) == 1


async def test_leaving_the_stream_takes_the_question_back() -> None:
    daemon = Daemon([chunk("Par"), chunk("is"), reply("Paris")])
    chunks = daemon.ask().__aiter__()
    await anext(chunks)
    await chunks.aclose()
    assert daemon.streams[0].cancelled


async def test_a_question_taken_back_is_not_asked_again() -> None:
    daemon = Daemon([chunk("Par"), Interrupted("died")], [reply("Paris")])
    stream = daemon.ask()
    chunks = stream.__aiter__()
    await anext(chunks)
    stream.cancel()
    with pytest.raises(Cancelled):
        await anext(chunks)
    assert len(daemon.asked) == 1


async def test_the_time_given_is_for_all_tries_together() -> None:
    with pytest.raises(DeadlineExceeded):
        await texts(Daemon([reply("Paris")]).ask(timeout=0))
