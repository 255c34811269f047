"""An API of Anthropic's kind that behaves badly: each way ends in its own typed error, or is mended by asking again."""

from __future__ import annotations

import asyncio
import time

import pytest

from fusiond.errors import (
    BadReply,
    BadRequest,
    ConfigError,
    ContentRefused,
    ContextTooLong,
    DeadlineExceeded,
    Denied,
    FusionError,
    Interrupted,
    KeyRefused,
    ProviderDown,
    RateLimited,
    UnknownModel,
)
from fusiond.providers.anthropic import Anthropic
from fusiond.providers.settings import Limits, ProviderConfig
from tests.providers.conftest import Asker, Asking, anthropic_server

KEY = "sk-ant-very-secret-0123456789"

REFUSALS: list[tuple[str, type[FusionError], str, int]] = [
    ("429", RateLimited, "asks to slow down: This request would exceed", 4),
    ("500", ProviderDown, "HTTP 500: Internal server error", 4),
    ("529", ProviderDown, "HTTP 529: Overloaded", 4),
    ("502", ProviderDown, "HTTP 502 —", 4),
    ("hang-up", ProviderDown, "closed the connection", 4),
    ("no-credit", Denied, "no credit left", 1),
    ("402", Denied, "no credit left", 1),
    ("401", KeyRefused, "LAB_KEY", 1),
    ("403", KeyRefused, "may not use this resource", 1),
    ("404", UnknownModel, 'knows no model "echu" (did you mean lab/echo?)', 1),
    ("no-such-path", ConfigError, "providers.lab.base_url", 1),
    ("too-long", ContextTooLong, "213462 tokens", 1),
    ("too-long-with-answer", ContextTooLong, "188240 + 21333", 1),
    ("too-large", ContextTooLong, "too long", 1),
    ("declines", ContentRefused, "declines to answer this: It may do harm.", 1),
    ("declines-silently", ContentRefused, "declines to answer this", 1),
    ("bad-option", BadRequest, "temperature: Input should be less than or equal to 1", 1),
    ("broken-json", BadReply, "broken JSON", 1),
    ("html", BadReply, "a web page", 1),
    ("empty", BadReply, "answers", 1),
    ("redirects", ConfigError, "redirects", 1),
]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(("mode", "kind", "words", "asked"), REFUSALS, ids=[row[0] for row in REFUSALS])
async def test_each_refusal_is_a_typed_error_on_one_line_without_the_key(
    asking_anthropic: Asking, mode: str, kind: type[FusionError], words: str, asked: int, stream: bool
) -> None:
    async with anthropic_server(mode) as server:
        ask = asking_anthropic(server.url, api_key=KEY, api_key_env="LAB_KEY")
        with pytest.raises(FusionError) as raised:
            await ask(model="echu", stream=stream)
    assert type(raised.value) is kind
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)
    assert server.asked == asked
    assert ask.pieces == []


async def test_anthropic_is_not_asked_without_a_key() -> None:
    provider = Anthropic("anthropic", ProviderConfig())
    with pytest.raises(KeyRefused, match="no key for anthropic — set ANTHROPIC_API_KEY"):
        await Asker(provider)()
    await provider.aclose()


# --- asking again -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("mode", ["429", "500", "529", "502", "hang-up", "cut-early"])
async def test_what_passes_is_not_seen_except_in_the_count(
    asking_anthropic: Asking, mode: str, stream: bool
) -> None:
    async with anthropic_server(f"{mode},{mode},well") as server:
        completion = await asking_anthropic(server.url)(stream=stream)
    assert completion.text == "You said: hello"
    assert completion.asked == server.asked == 3


async def test_a_stream_that_fails_before_its_first_word_is_asked_for_again(asking_anthropic: Asking) -> None:
    async with anthropic_server("overloaded-at-once,well") as server:
        completion = await asking_anthropic(server.url)()
    assert (completion.text, completion.asked) == ("You said: hello", 2)
    async with anthropic_server("overloaded-at-once") as server:
        with pytest.raises(ProviderDown, match="HTTP 529: Overloaded"):
            await asking_anthropic(server.url)()
    assert server.asked == 4


@pytest.mark.parametrize("mode", ["429", "429-in-body"])
async def test_the_time_to_wait_is_obeyed_wherever_it_stands(asking_anthropic: Asking, mode: str) -> None:
    async with anthropic_server(f"{mode},well", retry_after="0.3") as server:
        began = time.monotonic()
        await asking_anthropic(server.url)()
    assert time.monotonic() - began >= 0.3


async def test_a_long_time_to_wait_is_passed_on_instead(asking_anthropic: Asking) -> None:
    async with anthropic_server("429", retry_after="3600") as server:
        with pytest.raises(RateLimited) as raised:
            await asking_anthropic(server.url)()
    assert raised.value.retry_after == 3600
    assert server.asked == 1


@pytest.mark.parametrize("mode", ["cut", "unfinished", "error-late"])
async def test_a_stream_that_breaks_after_its_first_piece_is_interrupted_and_not_asked_again(
    asking_anthropic: Asking, mode: str
) -> None:
    async with anthropic_server(mode, delay=0.05) as server:
        ask = asking_anthropic(server.url)
        with pytest.raises(Interrupted):
            await ask()
    assert ask.pieces[0] == "You"
    assert server.asked == 1


async def test_a_refusal_in_the_middle_ends_the_answer(asking_anthropic: Asking) -> None:
    async with anthropic_server("declines-late", delay=0.05) as server:
        ask = asking_anthropic(server.url)
        with pytest.raises(ContentRefused):
            await ask()
    assert ask.pieces == ["You"]


# --- limits of time, and whoever asked has gone -----------------------------------------------------------------------


async def test_neither_pings_nor_the_start_of_a_block_are_a_token(asking_anthropic: Asking) -> None:
    async with anthropic_server("comments") as server:
        with pytest.raises(ProviderDown, match=r"no token within 0\.3 s"):
            await asking_anthropic(server.url, limits=Limits(first_token=0.3, idle=0.1))()
        await server.until(lambda s: s.cancelled == 1)
    assert server.asked == 1


async def test_pings_do_not_keep_a_stalled_stream_alive(asking_anthropic: Asking) -> None:
    async with anthropic_server("stalls") as server:
        ask = asking_anthropic(server.url, limits=Limits(idle=0.2))
        with pytest.raises(Interrupted, match=r"silent .* for 0\.2 s"):
            await ask()
    assert ask.pieces == ["You"]


async def test_an_api_that_never_answers_is_given_up(asking_anthropic: Asking) -> None:
    async with anthropic_server("silent") as server:
        with pytest.raises(ProviderDown, match=r"no token within 0\.2 s"):
            await asking_anthropic(server.url, limits=Limits(first_token=0.2))()
        with pytest.raises(DeadlineExceeded, match=r"within 0\.2 s"):
            await asking_anthropic(server.url, limits=Limits(total=0.2))(stream=False)
        await server.until(lambda s: s.cancelled == 2)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_cancel_before_the_first_token_reaches_the_api(
    asking_anthropic: Asking, stream: bool
) -> None:
    async with anthropic_server("silent") as server:
        task = asyncio.create_task(asking_anthropic(server.url)(stream=stream))
        await server.until(lambda s: s.asked == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until(lambda s: s.cancelled == 1)
