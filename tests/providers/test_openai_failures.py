"""An OpenAI-compatible API that behaves badly: each way ends in its own typed error, or is mended by asking again."""

from __future__ import annotations

import asyncio
import socket
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
from fusiond.protocol.chat import CompletionRequest, Message
from fusiond.providers.openai import OpenAI
from fusiond.providers.settings import Limits, ProviderConfig, Retries
from tests.llm_server import ScriptedServer
from tests.providers.conftest import Asker, Asking

KEY = "sk-very-secret-0123456789"

REFUSALS: list[tuple[str, type[FusionError], str, int]] = [
    ("429", RateLimited, "asks to slow down: Rate limit reached", 4),
    ("500", ProviderDown, "HTTP 500: The server had an error", 4),
    ("502", ProviderDown, "HTTP 502 —", 4),
    ("hang-up", ProviderDown, "closed the connection", 4),
    ("no-credit", Denied, "no credit left", 1),
    ("401", KeyRefused, "LAB_KEY", 1),
    ("403", KeyRefused, "Country not supported", 1),
    ("404", UnknownModel, 'knows no model "echu" (did you mean lab/echo?)', 1),
    ("no-such-path", ConfigError, "providers.lab.base_url", 1),
    ("too-long", ContextTooLong, "too long", 1),
    ("too-long-llama", ContextTooLong, "too long", 1),
    ("declines", ContentRefused, "I cannot help with that", 1),
    ("filtered", ContentRefused, "filtered", 1),
    ("filtered-away", ContentRefused, "declines to answer", 1),
    ("broken-json", BadReply, "broken JSON", 1),
    ("html", BadReply, "a web page", 1),
    ("empty", BadReply, "answers", 1),
    ("redirects", ConfigError, "redirects", 1),
]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(("mode", "kind", "words", "asked"), REFUSALS, ids=[row[0] for row in REFUSALS])
async def test_each_refusal_is_a_typed_error_on_one_line_without_the_key(
    asking: Asking, mode: str, kind: type[FusionError], words: str, asked: int, stream: bool
) -> None:
    async with ScriptedServer(mode) as server:
        ask = asking(server.url, api_key=KEY, api_key_env="LAB_KEY")
        with pytest.raises(FusionError) as raised:
            await ask(model="echu", stream=stream)
    assert type(raised.value) is kind
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)
    assert server.asked == asked
    assert ask.pieces == []


async def test_a_bad_option_is_named_in_the_apis_own_words(asking: Asking) -> None:
    async with ScriptedServer("bad-option") as server:
        with pytest.raises(BadRequest, match="temperature must be at most 2"):
            await asking(server.url)(options={"temperature": 9})


async def test_openai_is_not_asked_without_a_key() -> None:
    provider = OpenAI("openai", ProviderConfig())
    with pytest.raises(KeyRefused, match="no key for openai — set OPENAI_API_KEY"):
        await Asker(provider)()
    await provider.aclose()


# --- asking again -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("mode", ["429", "500", "502", "hang-up", "cut-early"])
async def test_what_passes_is_not_seen_except_in_the_count(asking: Asking, mode: str, stream: bool) -> None:
    async with ScriptedServer(f"{mode},{mode},well") as server:
        completion = await asking(server.url)(stream=stream)
    assert completion.text == "You said: hello"
    assert completion.asked == server.asked == 3


async def test_retry_after_is_obeyed(asking: Asking) -> None:
    async with ScriptedServer("429,well", retry_after="0.3") as server:
        began = time.monotonic()
        await asking(server.url)()
    assert time.monotonic() - began >= 0.3


async def test_a_long_retry_after_is_passed_on_instead(asking: Asking) -> None:
    async with ScriptedServer("429", retry_after="3600") as server:
        with pytest.raises(RateLimited) as raised:
            await asking(server.url)()
    assert raised.value.retry_after == 3600
    assert server.asked == 1


async def test_a_stream_cut_after_its_first_piece_is_interrupted_and_not_asked_again(asking: Asking) -> None:
    for mode in ("cut", "unfinished"):
        async with ScriptedServer(mode, delay=0.02) as server:
            ask = asking(server.url)
            with pytest.raises(Interrupted):
                await ask()
        assert ask.pieces[0] == "You"
        assert server.asked == 1


async def test_a_whole_reply_that_is_cut_is_asked_for_again(asking: Asking) -> None:
    async with ScriptedServer("cut,well") as server:
        completion = await asking(server.url)(stream=False)
    assert completion.text == "You said: hello"
    assert completion.asked == 2


async def test_an_error_inside_a_stream_is_an_error(asking: Asking) -> None:
    async with ScriptedServer("error-inside") as server:
        with pytest.raises(ProviderDown, match="CUDA out of memory"):
            await asking(server.url)()
    async with ScriptedServer("error-late", delay=0.05) as server:
        with pytest.raises(Interrupted):
            await asking(server.url)()


async def test_nobody_listening_is_said_in_one_line(asking: Asking) -> None:
    async with ScriptedServer() as server:
        url = server.url
    with pytest.raises(ProviderDown, match=r"cannot be reached: .*refused"):
        await asking(url)()


async def test_an_unknown_host_is_said_in_one_line(asking: Asking) -> None:
    with pytest.raises(ProviderDown, match=r"http://no-such-host\.invalid/v1"):
        await asking("http://no-such-host.invalid/v1", retries=Retries(attempts=1))()


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/v1", "127.0.0.1:8000/v1", "http://"])
async def test_a_base_url_that_is_none_is_a_fault_of_the_configuration(asking: Asking, url: str) -> None:
    with pytest.raises(ConfigError, match=r"providers\.lab\.base_url"):
        await asking(url)()


async def test_something_that_speaks_no_http_is_no_answer(asking: Asking) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BadReply, match="does not speak HTTP"):
            await asking(f"http://127.0.0.1:{port}/v1")()
        with pytest.raises(ConfigError, match="http://"):
            await asking(f"https://127.0.0.1:{port}/v1")()


# --- limits of time -----------------------------------------------------------------------------------------


async def test_keep_alives_are_no_token(asking: Asking) -> None:
    async with ScriptedServer("comments") as server:
        with pytest.raises(ProviderDown, match=r"no token within 0\.3 s"):
            await asking(server.url, limits=Limits(first_token=0.3))()
        await server.until(lambda s: s.cancelled == 1)
    assert server.asked == 1


async def test_a_server_that_never_answers_is_given_up(asking: Asking) -> None:
    async with ScriptedServer("silent") as server:
        with pytest.raises(ProviderDown, match=r"no token within 0\.2 s"):
            await asking(server.url, limits=Limits(first_token=0.2))()
        with pytest.raises(DeadlineExceeded, match=r"within 0\.2 s"):
            await asking(server.url, limits=Limits(total=0.2))(stream=False)
        await server.until(lambda s: s.cancelled == 2)


async def test_keep_alives_do_not_keep_a_stalled_stream_alive(asking: Asking) -> None:
    async with ScriptedServer("stalls") as server:
        ask = asking(server.url, limits=Limits(idle=0.2))
        with pytest.raises(Interrupted, match=r"silent .* for 0\.2 s"):
            await ask()
    assert ask.pieces == ["You"]


async def test_reasoning_keeps_a_stream_alive(asking: Asking) -> None:
    async with ScriptedServer("thinks", delay=0.1) as server:
        limits = Limits(first_token=0.3, idle=0.3)
        assert (await asking(server.url, limits=limits)()).text == "You said: hello"


async def test_the_whole_answer_has_a_limit_of_its_own(asking: Asking) -> None:
    async with ScriptedServer("well", delay=0.05) as server:
        ask = asking(server.url, limits=Limits(total=0.4))
        with pytest.raises(DeadlineExceeded, match=r"within 0\.4 s"):
            await ask("count 100")
        await server.until(lambda s: s.cancelled == 1)
    assert 1 <= len(ask.pieces) < 20


async def test_a_connection_that_is_not_accepted_has_its_limit(asking: Asking) -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)  # nobody accepts, and there is no room to wait
    port = listener.getsockname()[1]
    fillers = []
    try:
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        ask = asking(f"http://127.0.0.1:{port}/v1", limits=Limits(connect=0.2), retries=Retries(attempts=1))
        with pytest.raises(ProviderDown, match=r"accepts no connection within 0\.2 s"):
            await ask()
    finally:
        for one in (*fillers, listener):
            one.close()


# --- whoever asked has gone ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_cancel_before_the_first_token_reaches_the_api(asking: Asking, stream: bool) -> None:
    async with ScriptedServer("silent") as server:
        task = asyncio.create_task(asking(server.url)(stream=stream))
        await server.until(lambda s: s.asked == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until(lambda s: s.cancelled == 1)


async def test_a_cancel_in_the_middle_reaches_the_api(asking: Asking) -> None:
    async with ScriptedServer("well", delay=0.02) as server:
        came = asyncio.Event()
        provider = asking(server.url).provider
        request = CompletionRequest(messages=[Message("user", "count 1000")], model="echo")
        task = asyncio.create_task(provider.complete(request, lambda _chunk: came.set()))
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until(lambda s: s.cancelled == 1)


async def test_a_cancel_while_waiting_to_ask_again_ends_it(asking: Asking) -> None:
    async with ScriptedServer("429", retry_after="20") as server:
        task = asyncio.create_task(asking(server.url)())
        await server.until(lambda s: s.served == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert server.asked == 1
