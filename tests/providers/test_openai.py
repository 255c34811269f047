"""An OpenAI-compatible API that behaves: over real HTTP, on loopback."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fusiond.protocol.chat import CompletionChunk, CompletionRequest, Message, Usage
from tests.llm_server import ScriptedServer
from tests.providers.conftest import Asking


async def test_a_stream_arrives_piece_by_piece_and_is_whole_in_the_end(asking: Asking) -> None:
    async with ScriptedServer("well", delay=0.02) as server:
        ask = asking(server.url)
        completion = await ask("count 5")
    assert ask.pieces == ["1", " 2", " 3", " 4", " 5"]
    assert completion.text == "1 2 3 4 5"
    assert completion.model == "echo"
    assert completion.finish_reason == "stop"
    assert completion.usage == Usage(7, 5)
    assert completion.asked == 1


async def test_a_whole_reply_emits_nothing(asking: Asking) -> None:
    async with ScriptedServer() as server:
        ask = asking(server.url)
        completion = await ask("count 5", stream=False)
    assert ask.pieces == []
    assert completion.text == "1 2 3 4 5"
    assert completion.usage == Usage(7, 5)
    assert server.bodies[0]["stream"] is False
    assert "stream_options" not in server.bodies[0]


async def test_the_conversation_and_the_options_go_to_the_api_as_they_are(asking: Asking) -> None:
    messages = [
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Ho"),
        Message("user", "Grüße"),
    ]
    options = {
        "temperature": 0.3,
        "stop": ["\n"],
        "metadata": {"a": [1]},
        "model": "other",
        "messages": [],
        "stream": 7,
    }
    async with ScriptedServer() as server:
        ask = asking(server.url, api_key="sk-1")
        await ask.provider.complete(
            CompletionRequest(messages=messages, model="echo", options=options), ask.chunks.append
        )
    body = server.bodies[0]
    assert body["messages"] == [{"role": m.role, "content": m.content} for m in messages]
    assert (body["temperature"], body["stop"], body["metadata"]) == (0.3, ["\n"], {"a": [1]})
    assert (body["model"], body["stream"]) == ("echo", True), "options do not replace what was asked"
    assert server.headers[0]["Authorization"] == "Bearer sk-1"


async def test_without_a_key_none_is_sent(asking: Asking) -> None:
    async with ScriptedServer() as server:
        await asking(server.url)()
    assert "Authorization" not in server.headers[0]


CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
OPEN = {"type": "object", "properties": {"a": CLOSED, "b": {"type": "array", "items": {"type": "object"}}}}


@pytest.mark.parametrize(
    ("schema", "strict"), [(CLOSED, True), (OPEN, False), ({"anyOf": [CLOSED, OPEN]}, False)]
)
async def test_a_schema_is_strict_where_it_can_be(
    asking: Asking, schema: dict[str, Any], strict: bool
) -> None:
    async with ScriptedServer() as server:
        await asking(server.url)(schema=schema)
    assert server.bodies[0]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": strict},
    }


async def test_a_server_without_stream_options_is_asked_without_them_from_then_on(asking: Asking) -> None:
    async with ScriptedServer("no-stream-options") as server:
        ask = asking(server.url)
        first = await ask()
        second = await ask()
    assert first.text == second.text == "You said: hello"
    assert first.usage == Usage(None, None), "unknown is None, never 0"
    assert ["stream_options" in body for body in server.bodies] == [True, False, False]
    assert (first.asked, second.asked) == (2, 1)


async def test_a_server_that_does_not_stream_is_understood(asking: Asking) -> None:
    async with ScriptedServer("not-streaming") as server:
        ask = asking(server.url)
        completion = await ask()
    assert ask.pieces == ["You said: hello"]
    assert completion.text == "You said: hello"


async def test_a_finish_reason_is_end_enough(asking: Asking) -> None:
    async with ScriptedServer("no-mark") as server:
        assert (await asking(server.url)()).text == "You said: hello"


async def test_reasoning_is_not_part_of_the_answer(asking: Asking) -> None:
    async with ScriptedServer("thinks") as server:
        assert (await asking(server.url)()).text == "You said: hello"


@pytest.mark.parametrize("mode", ["instant", "well"])
async def test_one_connection_serves_one_request_after_the_other(asking: Asking, mode: str) -> None:
    async with ScriptedServer(mode, delay=0.01) as server:
        ask = asking(server.url)
        for stream in (True, True, False, True, True):
            await ask(stream=stream)
    assert len(server.connections) == 1


async def test_the_mark_is_the_end_even_if_the_server_does_not_end_the_reply(asking: Asking) -> None:
    async with ScriptedServer("lingers") as server:
        async with asyncio.timeout(5):
            assert (await asking(server.url)()).text == "You"
        await server.until(lambda s: s.cancelled == 1)


async def test_a_hundred_and_fifty_requests_run_at_once(asking: Asking) -> None:
    async with ScriptedServer("silent") as server:
        ask = asking(server.url)
        under_way = [asyncio.create_task(ask()) for _ in range(150)]
        await server.until(lambda s: s.asked == 150)
        for task in under_way:
            task.cancel()
        await asyncio.wait(under_way)
        await server.until(lambda s: s.cancelled == 150)


# --- a prefix that the asker holds already ----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_where_the_api_takes_a_prefill_the_answer_is_continued(asking: Asking, stream: bool) -> None:
    async with ScriptedServer() as server:
        ask = asking(server.url, prefill=True)
        completion = await ask("count 5", prefix="1 2 3", stream=stream)
    assert completion.text == "1 2 3 4 5"
    assert server.bodies[0]["messages"][-1] == {"role": "assistant", "content": "1 2 3"}
    assert "".join(ask.pieces) == (" 4 5" if stream else "")
    assert not any(chunk.reset for chunk in ask.chunks)


async def test_a_whole_reply_that_repeats_the_prefill_has_it_once(asking: Asking) -> None:
    async with ScriptedServer("not-streaming,repeats") as server:
        ask = asking(server.url, prefill=True)
        assert (await ask("count 5", prefix="1 2", stream=False)).text == "1 2 3 4 5"
        assert (await ask("count 5", prefix="1 2", stream=False)).text == "1 2 3 4 5"


async def test_elsewhere_it_begins_anew_and_says_so(asking: Asking) -> None:
    async with ScriptedServer(delay=0.02) as server:
        ask = asking(server.url)
        completion = await ask("count 3", prefix="1 2")
    assert [message["role"] for message in server.bodies[0]["messages"]] == ["user"]
    assert ask.chunks == [CompletionChunk("1", reset=True), CompletionChunk(" 2"), CompletionChunk(" 3")]
    assert completion.text == "1 2 3"


async def test_an_empty_prefix_is_never_sent(asking: Asking) -> None:
    async with ScriptedServer() as server:
        ask = asking(server.url, prefill=True)
        await ask(prefix="")
    assert [message["role"] for message in server.bodies[0]["messages"]] == ["user"]
    assert not ask.chunks[0].reset


async def test_an_empty_answer_still_voids_what_came_before(asking: Asking) -> None:
    async with ScriptedServer("says-nothing") as server:
        ask = asking(server.url)
        completion = await ask(prefix="1 2")
    assert ask.chunks == [CompletionChunk("", reset=True)]
    assert completion.text == ""
