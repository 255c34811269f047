"""What tests of the providers share."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from fusiond.protocol.chat import Completion, CompletionChunk, CompletionRequest, Message
from fusiond.providers.anthropic import Anthropic
from fusiond.providers.base import Provider
from fusiond.providers.openai import OpenAI
from fusiond.providers.settings import Limits, ProviderConfig, Retries
from tests.llm_server import ANTHROPIC, ScriptedServer

SOON = Retries(attempts=4, first_pause=0.01, longest_pause=0.02)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is reached directly, whatever the machine's environment says."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class Asker:
    """Asks one provider; keeps the pieces that came."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.chunks: list[CompletionChunk] = []

    @property
    def pieces(self) -> list[str]:
        return [chunk.text for chunk in self.chunks]

    async def __call__(self, prompt: str = "hello", *, model: str = "echo", **more: Any) -> Completion:
        request = CompletionRequest(messages=[Message("user", prompt)], model=model, **more)
        return await self.provider.complete(request, self.chunks.append)


Asking = Callable[..., Asker]


def anthropic_server(mode: str = "well", **more: Any) -> ScriptedServer:
    return ScriptedServer(mode, shape=ANTHROPIC, **more)


@pytest.fixture
async def asking() -> AsyncIterator[Asking]:
    """Makes askers of the API at a URL; closed afterwards."""
    made: list[Callable[[], Awaitable[None]]] = []

    def make(url: str, *, limits: Limits | None = None, retries: Retries = SOON, **given: Any) -> Asker:
        config = ProviderConfig(base_url=url, **given)
        kind = Anthropic if config.kind == "anthropic" else OpenAI
        provider = kind("lab", config, limits=limits or Limits(), retries=retries)
        made.append(provider.aclose)
        return Asker(provider)

    yield make
    for close in made:
        await close()


@pytest.fixture
def asking_anthropic(asking: Asking) -> Asking:
    """The same of an API of Anthropic's kind."""
    return functools.partial(asking, kind="anthropic")
