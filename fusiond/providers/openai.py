"""OpenAI-compatible chat completions over httpx (minimal)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import msgspec
from httpx_aiohttp import AiohttpTransport, HttpxAiohttpClient

from fusiond.errors import BadRequest, Interrupted, KeyRefused, ProviderDown
from fusiond.protocol.chat import Completion, CompletionChunk, CompletionRequest, Usage


class OpenAI:
    def __init__(self, base_url: str, api_key: str, *, uds: str | None = None, prefill: bool = False) -> None:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx.Limits(max_connections=512, max_keepalive_connections=512)
        kw: dict[str, Any] = {"transport": AiohttpTransport(uds=uds, limits=limits)} if uds else {"limits": limits}
        self._client = HttpxAiohttpClient(base_url=base_url, headers=headers, timeout=httpx.Timeout(60, connect=5), **kw)
        self._prefill = prefill

    async def complete(self, model: str, request: CompletionRequest, emit: Callable[[CompletionChunk], None]) -> Completion:
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        text = ""
        if request.prefix and self._prefill:
            messages.append({"role": "assistant", "content": request.prefix})
            text = request.prefix
        reset = bool(request.prefix and not self._prefill)
        body = {"model": model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}, **request.options}
        usage, finish = Usage(), None
        try:
            async with self._client.stream("POST", "chat/completions", content=msgspec.json.encode(body), headers={"content-type": "application/json"}) as r:
                if r.status_code in (401, 403):
                    raise KeyRefused("the provider refuses the key")
                if r.status_code != 200:
                    raise BadRequest(f"{r.status_code} {(await r.aread())[:300]!r}")
                async for line in r.aiter_lines():
                    if not line.startswith("data: ") or line == "data: [DONE]":
                        continue
                    d = msgspec.json.decode(line[6:])
                    if d.get("usage"):
                        usage = Usage(d["usage"].get("prompt_tokens"), d["usage"].get("completion_tokens"))
                    for c in d.get("choices", ()):
                        finish = c.get("finish_reason") or finish
                        piece = c["delta"].get("content")
                        if piece:
                            text += piece
                            emit(CompletionChunk(piece, reset))
                            reset = False
        except httpx.ConnectError as e:
            raise ProviderDown(f"cannot connect: {e}") from e
        except httpx.HTTPError as e:
            raise Interrupted(f"{e}") from e
        return Completion(text=text, model=model, finish_reason=finish, usage=usage)
