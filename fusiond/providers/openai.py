"""Chat Completions, as OpenAI and everything compatible speaks it."""

from __future__ import annotations

from typing import Any

from fusiond.errors import BadRequest
from fusiond.protocol.chat import Completion, CompletionRequest, Relayed
from fusiond.providers.base import Emit
from fusiond.providers.openai_replies import OpenAIReading
from fusiond.providers.remote import Exchange, Kind, Remote
from fusiond.providers.settings import Limits, ProviderConfig, Retries

KIND = Kind("openai", "https://api.openai.com/v1", "/chat/completions", "/models", OpenAIReading)


class OpenAI:
    """One API. `uds`: the path of a Unix socket to speak to instead of the URL's host. Call inside a running loop."""

    def __init__(
        self,
        name: str,
        config: ProviderConfig,
        *,
        limits: Limits = Limits(),  # noqa: B008 — frozen
        retries: Retries = Retries(),  # noqa: B008 — frozen
        uds: str | None = None,
    ) -> None:
        headers = {"authorization": f"Bearer {config.api_key}"} if config.api_key else {}
        url = config.base_url or KIND.url
        self._remote = Remote(KIND, name, config, url, headers, limits=limits, retries=retries, uds=uds)
        self._prefill = config.prefill
        self._counts: bool | None = None  # whether it takes stream_options; None until it has shown

    def __repr__(self) -> str:
        return f"OpenAI({self._remote})"

    async def complete(self, request: CompletionRequest, emit: Emit) -> Completion:
        continues = bool(request.prefix) and self._prefill
        body = _body(request, continues=continues)
        return await self._remote.complete(
            request, emit, lambda exchange: self._ask(body, exchange), continues=continues
        )

    async def relay(self, url: str, model: str, body: bytes) -> Relayed:
        return await self._remote.relay(url.removeprefix("/v1"), model, body)

    async def aclose(self) -> None:
        await self._remote.aclose()

    async def _ask(self, body: dict[str, Any], exchange: Exchange) -> None:
        """Asks once; a server that does not know `stream_options` is asked again without."""
        if not body["stream"] or self._counts is False:
            return await exchange.post(body)
        given = body.get("stream_options")
        options = given if isinstance(given, dict) else {}
        try:
            await exchange.post({**body, "stream_options": {"include_usage": True, **options}})
        except BadRequest as error:
            if self._counts or exchange.answer.started or type(error) is not BadRequest:
                raise
            await exchange.post(body)
            self._counts = False
        else:
            self._counts = True
        return None


def _body(request: CompletionRequest, *, continues: bool) -> dict[str, Any]:
    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    if continues:
        messages.append({"role": "assistant", "content": request.prefix})
    body = {**request.options, "model": request.model, "messages": messages, "stream": request.stream}
    if request.schema is not None:
        form = {"name": "answer", "schema": request.schema, "strict": _can_be_strict(request.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return body


def _can_be_strict(schema: Any) -> bool:
    """Whether the schema is one that OpenAI takes as strict: every object closed, all its properties required."""
    if isinstance(schema, list):
        return all(map(_can_be_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        properties = schema.get("properties") or {}
        required = schema.get("required")
        if schema.get("additionalProperties") is not False or not isinstance(required, list):
            return False
        if sorted(map(str, required)) != sorted(properties):
            return False
    return all(map(_can_be_strict, schema.values()))
