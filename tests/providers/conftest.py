"""What tests of the providers share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from fusiond.protocol.chat import Completion, CompletionChunk, CompletionRequest, Message
from fusiond.providers.openai import OpenAI
from fusiond.providers.settings import Limits, ProviderConfig, Retries

SOON = Retries(attempts=4, first_pause=0.01, longest_pause=0.02)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is reached directly, whatever the machine's environment says."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class Asker:
    """Asks one provider; keeps the pieces that came."""

    def __init__(self, provider: OpenAI) -> None:
        self.provider = provider
        self.chunks: list[CompletionChunk] = []

    @property
    def pieces(self) -> list[str]:
        return [chunk.text for chunk in self.chunks]

    async def __call__(self, prompt: str = "hello", *, model: str = "echo", **more: Any) -> Completion:
        request = CompletionRequest(messages=[Message("user", prompt)], model=model, **more)
        return await self.provider.complete(request, self.chunks.append)


Asking = Callable[..., Asker]


@pytest.fixture
async def asking() -> AsyncIterator[Asking]:
    """Makes askers of the API at a URL; closed afterwards."""
    made: list[Callable[[], Awaitable[None]]] = []

    def make(url: str, *, limits: Limits | None = None, retries: Retries = SOON, **config: Any) -> Asker:
        provider = OpenAI(
            "lab", ProviderConfig(base_url=url, **config), limits=limits or Limits(), retries=retries
        )
        made.append(provider.aclose)
        return Asker(provider)

    yield make
    for close in made:
        await close()
