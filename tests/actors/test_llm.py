"""The llm actor: what it is configured with, what it answers, and when it loads the embedded model."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fusiond.actors.base import Stream
from fusiond.actors.llm import Llm, create
from fusiond.errors import BadRequest, ConfigError, FusionError, ModelMissing, UnknownModel
from fusiond.models import SMOLLM2
from fusiond.protocol.chat import Completion, CompletionChunk, CompletionRequest, Message
from fusiond.providers.settings import LlmConfig, ProviderConfig
from tests.llm_server import ScriptedServer
from tests.providers.embedded import model_file

encode = msgspec.msgpack.encode


class Called:
    """One call of the verb, as the host would make it."""

    id = b"0" * 16
    verb = "complete"
    uid = 0
    attempt = 1
    remaining: float | None = None

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.pieces: list[CompletionChunk] = []

    def emit(self, chunk: bytes) -> None:
        self.pieces.append(msgspec.msgpack.decode(chunk, type=CompletionChunk))


class HostSeen:
    """The host's side of the port: notes when the actor says that it loads."""

    name = "llm.0"

    def __init__(self) -> None:
        self.said: list[str] = []
        self.done = asyncio.Event()

    async def request(
        self, service: str, verb: str, body: bytes, *, timeout: float | None = None, repeatable: bool = True
    ) -> bytes:
        raise AssertionError("the llm actor asks nobody")

    def stream(
        self, service: str, verb: str, body: bytes, *, timeout: float | None = None, repeatable: bool = True
    ) -> Stream:
        raise AssertionError("the llm actor asks nobody")

    async def loading(self) -> None:
        self.said.append("loading")
        await asyncio.sleep(0)  # as a real host, which sends it

    def loaded(self) -> None:
        self.said.append("loaded")
        self.done.set()

    def fail(self, error: FusionError) -> None: ...


@pytest.fixture
def run_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fu"))
    yield folder
    shutil.rmtree(folder)


Making = Callable[..., Llm]


@pytest.fixture
async def make(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Making]:
    """Makes actors as the host does, from the bytes of their configuration; torn down afterwards."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    made: list[Llm] = []

    def create_one(model: str, **providers: ProviderConfig) -> Llm:
        config = LlmConfig(model=model, models_dir=str(run_dir), run_dir=str(run_dir), providers=providers)
        made.append(create(encode(config)))
        return made[-1]

    yield create_one
    for actor in made:
        if hasattr(actor, "_providers"):
            await actor.teardown()


async def complete(
    actor: Llm, prompt: str = "hello", **more: Any
) -> tuple[Completion, list[CompletionChunk]]:
    called = Called(encode(CompletionRequest(messages=[Message("user", prompt)], **more)))
    answered = actor.verbs["complete"](called)
    assert not isinstance(answered, bytes)
    return msgspec.msgpack.decode(await answered, type=Completion), called.pieces


def test_what_it_is_handed_may_leave_out_what_has_a_default() -> None:
    handed = {
        "model": "lab/x",
        "models_dir": "/m",
        "run_dir": "/r",
        "providers": {"lab": {"kind": "openai", "base_url": "http://h/v1", "api_key": "k"}},
    }
    assert isinstance(create(encode(handed)), Llm)


async def test_it_answers_with_the_model_that_was_asked(make: Making) -> None:
    async with ScriptedServer(delay=0.02) as server:
        actor = make("lab/echo", lab=ProviderConfig(base_url=server.url))
        await actor.setup(HostSeen())
        completion, pieces = await complete(actor, "count 3")
        assert completion == Completion(
            text="1 2 3", model="lab/echo", finish_reason="stop", usage=completion.usage, asked=1
        )
        assert [piece.text for piece in pieces] == ["1", " 2", " 3"]
        other, _ = await complete(actor, model="lab/meta/llama")
        assert other.model == "lab/meta/llama"
    assert [body["model"] for body in server.bodies] == ["echo", "meta/llama"]


async def test_a_cancelled_call_is_cancelled_at_the_provider(make: Making) -> None:
    async with ScriptedServer("silent") as server:
        actor = make("lab/echo", lab=ProviderConfig(base_url=server.url))
        await actor.setup(HostSeen())
        task = asyncio.create_task(complete(actor))
        await server.until(lambda s: s.asked == 1)
        task.cancel()
        await server.until(lambda s: s.cancelled == 1)


async def test_a_body_that_is_no_request_is_refused(make: Making) -> None:
    actor = make("lab/echo")
    await actor.setup(HostSeen())
    with pytest.raises(BadRequest):
        await actor.verbs["complete"](Called(b"\xff"))  # type: ignore[misc]


async def test_an_unknown_provider_fails_the_request_not_the_actor(make: Making) -> None:
    actor = make("lab/echo")
    await actor.setup(HostSeen())
    with pytest.raises(UnknownModel, match="there is no provider"):
        await complete(actor)


async def test_an_embedded_model_not_fetched_yet_fails_each_request_only(make: Making) -> None:
    actor = make("local/smollm2")
    host = HostSeen()
    await actor.setup(host)
    for _ in range(2):
        with pytest.raises(ModelMissing):
            await complete(actor)
    assert host.said == []


@pytest.mark.parametrize("content", [None, b"GGUF but no model"])
async def test_an_added_model_that_cannot_be_loaded_fails_the_start(
    make: Making, run_dir: Path, content: bytes | None
) -> None:
    file = run_dir / "mine.gguf"
    if content is not None:
        pytest.importorskip("xllamacpp")
        file.write_bytes(content)
    (run_dir / "models.toml").write_text(f'[models]\nmine = "{file}"\n')
    with pytest.raises(ConfigError, match=r"mine\.gguf"):
        await make("local/mine").setup(HostSeen())


@pytest.mark.model
async def test_the_default_model_is_loaded_before_the_actor_is_ready(make: Making, run_dir: Path) -> None:
    (run_dir / SMOLLM2.file).symlink_to(model_file())
    actor, host = make("local/smollm2"), HostSeen()
    await actor.setup(host)
    assert host.said == ["loading", "loaded"]
    completion, _ = await complete(actor, "What is the capital of France?", options={"temperature": 0})
    assert "Paris" in completion.text
    assert completion.model == "local/smollm2"
    assert host.said == ["loading", "loaded"]


@pytest.mark.model
async def test_a_model_fetched_later_is_loaded_once_when_first_asked(make: Making, run_dir: Path) -> None:
    actor, host = make("local/smollm2"), HostSeen()
    await actor.setup(host)
    with pytest.raises(FusionError):
        await complete(actor)
    (run_dir / SMOLLM2.file).symlink_to(model_file())
    await asyncio.gather(*(complete(actor, options={"max_tokens": 2}) for _ in range(3)))
    assert host.said == ["loading", "loaded"]


@pytest.mark.model
async def test_a_model_fetched_later_is_loaded_even_if_nobody_asks(make: Making, run_dir: Path) -> None:
    actor, host = make("local/smollm2"), HostSeen()
    await actor.setup(host)
    assert host.said == []
    (run_dir / SMOLLM2.file).symlink_to(model_file())
    async with asyncio.timeout(20):
        await host.done.wait()
    assert host.said == ["loading", "loaded"]
