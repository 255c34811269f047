"""The provider's API asked without Fusion, as a program would that knows httpx: its client, on aiohttp's transport."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import msgspec
from httpx_aiohttp import AiohttpTransport


class _Delta(msgspec.Struct):
    content: str = ""


class _Choice(msgspec.Struct):
    delta: _Delta


class _Event(msgspec.Struct):
    choices: list[_Choice]


_decode = msgspec.json.Decoder(_Event).decode


class Direct:
    """Asks the API at `url`. Make it inside a running loop."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/chat/completions"
        limits = httpx.Limits(max_connections=1024, keepalive_expiry=30)
        self._client = httpx.AsyncClient(
            transport=AiohttpTransport(limits=limits, trust_env=False), timeout=60
        )

    async def stream(self, prompt: str) -> AsyncIterator[str]:
        """The pieces of the answer as they come."""
        body = {"model": "echo", "messages": [{"role": "user", "content": prompt}], "stream": True}
        async with self._client.stream("POST", self._url, json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    for choice in _decode(line[6:]).choices:
                        if choice.delta.content:
                            yield choice.delta.content

    async def close(self) -> None:
        await self._client.aclose()
