"""An API of Anthropic's kind that behaves: over real HTTP, on loopback. It objects to what Anthropic refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fusiond.errors import BadRequest
from fusiond.protocol.chat import CompletionChunk, CompletionRequest, Message, Usage
from fusiond.providers.settings import Limits
from tests.providers.conftest import Asking, anthropic_server


async def test_a_stream_arrives_piece_by_piece_and_is_whole_in_the_end(asking_anthropic: Asking) -> None:
    async with anthropic_server(delay=0.02) as server:
        ask = asking_anthropic(server.url)
        completion = await ask("count 5")
    assert ask.pieces == ["1", " 2", " 3", " 4", " 5"]
    assert completion.text == "1 2 3 4 5"
    assert completion.model == "echo"
    assert completion.finish_reason == "stop"
    assert completion.usage == Usage(7, 5), "tokens of the cache are input too"
    assert completion.asked == 1


async def test_a_whole_reply_emits_nothing(asking_anthropic: Asking) -> None:
    async with anthropic_server() as server:
        ask = asking_anthropic(server.url)
        completion = await ask("count 5", stream=False)
    assert ask.pieces == []
    assert (completion.text, completion.finish_reason) == ("1 2 3 4 5", "stop")
    assert completion.usage == Usage(7, 5)
    assert server.bodies[0]["stream"] is False


async def test_the_system_prompt_stands_beside_the_messages_and_options_go_as_they_are(
    asking_anthropic: Asking,
) -> None:
    messages = [
        Message("system", "Be brief."),
        Message("system", "Be kind."),
        Message("user", "Hi"),
        Message("assistant", "Ho"),
        Message("user", "Grüße"),
    ]
    options = {"temperature": 0.3, "top_k": 5, "stop": "\n", "max_tokens": 9, "messages": [], "stream": 7}
    async with anthropic_server() as server:
        ask = asking_anthropic(server.url, api_key="sk-1")
        await ask.provider.complete(
            CompletionRequest(messages=messages, model="echo", options=options), ask.chunks.append
        )
    assert server.bodies[0] == {
        "model": "echo",
        "system": "Be brief.\n\nBe kind.",
        "messages": [{"role": m.role, "content": m.content} for m in messages[2:]],
        "stream": True,
        "max_tokens": 9,
        "temperature": 0.3,
        "top_k": 5,
        "stop_sequences": ["\n"],
    }
    assert server.headers[0]["x-api-key"] == "sk-1"
    assert server.headers[0]["anthropic-version"] == "2023-06-01"


async def test_without_options_the_answer_has_room_and_without_a_key_none_is_sent(
    asking_anthropic: Asking,
) -> None:
    async with anthropic_server() as server:
        await asking_anthropic(server.url)()
    assert server.bodies[0]["max_tokens"] > 8000
    assert "system" not in server.bodies[0]
    assert "x-api-key" not in server.headers[0]


async def test_a_message_without_words_is_left_out(asking_anthropic: Asking) -> None:
    messages = [Message("system", ""), Message("user", "a"), Message("assistant", " "), Message("user", "b")]
    async with anthropic_server() as server:
        ask = asking_anthropic(server.url)
        await ask.provider.complete(CompletionRequest(messages=messages, model="echo"), ask.chunks.append)
    assert [message["content"] for message in server.bodies[0]["messages"]] == ["a", "b"]


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
async def test_a_base_url_may_have_the_version(asking_anthropic: Asking, ending: str) -> None:
    async with anthropic_server() as server:
        assert (await asking_anthropic(server.url + ending)()).text == "You said: hello"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("mode", "reason"),
    [("out-of-tokens", "length"), ("out-of-context", "length"), ("stop-sequence", "stop")],
)
async def test_why_it_ended_is_said_in_the_words_of_every_provider(
    asking_anthropic: Asking, mode: str, reason: str, stream: bool
) -> None:
    async with anthropic_server(mode) as server:
        completion = await asking_anthropic(server.url)(stream=stream)
    assert (completion.text, completion.finish_reason) == ("Once upon", reason)


async def test_thinking_is_not_part_of_the_answer_but_keeps_the_stream_alive(
    asking_anthropic: Asking,
) -> None:
    async with anthropic_server("thinks", delay=0.1) as server:
        completion = await asking_anthropic(server.url, limits=Limits(first_token=0.3, idle=0.3))()
    assert completion.text == "You said: hello"
    assert completion.usage == Usage(7, 8)


@pytest.mark.parametrize("mode", ["unknown-events", "no-mark", "not-streaming"])
async def test_an_answer_of_another_make_is_understood(asking_anthropic: Asking, mode: str) -> None:
    async with anthropic_server(mode) as server:
        completion = await asking_anthropic(server.url)()
    assert (completion.text, completion.finish_reason) == ("You said: hello", "stop")


@pytest.mark.parametrize("mode", ["instant", "well"])
async def test_one_connection_serves_one_request_after_the_other(asking_anthropic: Asking, mode: str) -> None:
    async with anthropic_server(mode, delay=0.01) as server:
        ask = asking_anthropic(server.url)
        for stream in (True, True, False, True):
            await ask(stream=stream)
    assert len(server.connections) == 1


async def test_message_stop_is_the_end_even_if_the_server_does_not_end_the_reply(
    asking_anthropic: Asking,
) -> None:
    async with anthropic_server("lingers") as server:
        async with asyncio.timeout(5):
            assert (await asking_anthropic(server.url)()).text == "You"
        await server.until(lambda s: s.cancelled == 1)


# --- a schema ---------------------------------------------------------------------------------------------------------

NAME = {"type": "object", "properties": {"default": {"type": "string"}}, "required": ["default"]}
SCHEMA = {
    "$defs": {"name": NAME},
    "type": "object",
    "properties": {
        "type": {"$ref": "#/$defs/name"},
        "properties": {"type": "array", "items": {"anyOf": [NAME, {"type": "null"}]}},
        "const": {"const": {"type": "object"}},
    },
}


async def test_a_schema_goes_with_its_objects_closed(asking_anthropic: Asking) -> None:
    closed = {**NAME, "additionalProperties": False}
    options = {"output_config": {"effort": "low"}}
    async with anthropic_server() as server:
        completion = await asking_anthropic(server.url)('say {"a": 1}', schema=SCHEMA, options=options)
    assert completion.text == '{"a": 1}'
    assert server.bodies[0]["output_config"] == {
        "effort": "low",
        "format": {
            "type": "json_schema",
            "schema": {
                "$defs": {"name": closed},
                "type": "object",
                "properties": {
                    "type": {"$ref": "#/$defs/name"},
                    "properties": {"type": "array", "items": {"anyOf": [closed, {"type": "null"}]}},
                    "const": {"const": {"type": "object"}},
                },
                "additionalProperties": False,
            },
        },
    }
    assert "additionalProperties" not in NAME, "what was asked is not touched"


async def test_an_object_that_is_open_on_purpose_is_left_for_the_api_to_refuse(
    asking_anthropic: Asking,
) -> None:
    async with anthropic_server() as server:
        with pytest.raises(BadRequest, match="additionalProperties"):
            await asking_anthropic(server.url)(schema={"type": "object", "additionalProperties": True})


# --- a prefix that the asker holds already ----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_where_the_api_takes_a_prefill_the_answer_is_continued(
    asking_anthropic: Asking, stream: bool
) -> None:
    async with anthropic_server() as server:
        ask = asking_anthropic(server.url, prefill=True)
        completion = await ask("count 5", prefix="1 2 3", stream=stream)
    assert completion.text == "1 2 3 4 5"
    assert server.bodies[0]["messages"][-1] == {"role": "assistant", "content": "1 2 3"}
    assert "".join(ask.pieces) == (" 4 5" if stream else "")
    assert not any(chunk.reset for chunk in ask.chunks)


@pytest.mark.parametrize(
    ("prefill", "request_"),
    [
        (False, {"prefix": "1 2"}),
        (True, {"prefix": "1 2 "}),
        (True, {"prefix": "1 2", "schema": {"type": "array"}}),
        (True, {"prefix": "1 2", "options": {"thinking": {"type": "adaptive"}}}),
    ],
    ids=["a newer model", "after a space", "with a schema", "with thinking"],
)
async def test_elsewhere_it_begins_anew_and_says_so(
    asking_anthropic: Asking, prefill: bool, request_: dict[str, Any]
) -> None:
    async with anthropic_server(delay=0.02) as server:
        ask = asking_anthropic(server.url, prefill=prefill)
        completion = await ask("count 3", **request_)
    assert [message["role"] for message in server.bodies[0]["messages"]] == ["user"]
    assert ask.chunks == [CompletionChunk("1", reset=True), CompletionChunk(" 2"), CompletionChunk(" 3")]
    assert completion.text == "1 2 3"


async def test_an_empty_answer_still_voids_what_came_before(asking_anthropic: Asking) -> None:
    async with anthropic_server("says-nothing") as server:
        ask = asking_anthropic(server.url)
        completion = await ask(prefix="1 2")
    assert ask.chunks == [CompletionChunk("", reset=True)]
    assert completion.text == ""
