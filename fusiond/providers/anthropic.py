"""The Messages API, as Anthropic and everything compatible speaks it."""

from __future__ import annotations

from typing import Any

from fusiond.protocol.chat import Completion, CompletionRequest, Relayed
from fusiond.providers.anthropic_replies import AnthropicReading
from fusiond.providers.base import Emit
from fusiond.providers.openai_shape import as_openai, from_openai
from fusiond.providers.remote import Kind, Remote
from fusiond.providers.settings import Limits, ProviderConfig, Retries

KIND = Kind(
    "anthropic", "https://api.anthropic.com", "/v1/messages", "/v1/models?limit=1000", AnthropicReading
)
VERSION = "2023-06-01"
"""The later one, 2026-10-21, takes no temperature, top_p or top_k, of older models neither."""

MAX_TOKENS = 16_384
"""Of an answer, thinking included, where the options do not say: the API wants a limit."""

_NAMED_SCHEMAS = ("properties", "$defs", "definitions")
_SCHEMAS = ("anyOf", "oneOf")


class Anthropic:
    """One API; its base URL is without the version. Call inside a running loop.

    A cut-off answer begins anew unless `config.prefill` says that the API continues one: models since Claude Opus 4.6
    and Sonnet 4.6 refuse a conversation that ends with the assistant's own words, and what is refused is an answer
    lost, where one begun anew costs only tokens. Nor is an answer continued where no model would: with a schema, with
    thinking, and after a space.
    """

    def __init__(
        self,
        name: str,
        config: ProviderConfig,
        *,
        limits: Limits = Limits(),  # noqa: B008 — frozen
        retries: Retries = Retries(),  # noqa: B008 — frozen
    ) -> None:
        headers = {"anthropic-version": VERSION} | ({"x-api-key": config.api_key} if config.api_key else {})
        url = (config.base_url or KIND.url).rstrip("/").removesuffix("/v1")
        self._remote = Remote(KIND, name, config, url, headers, limits=limits, retries=retries)
        self._prefill = config.prefill

    def __repr__(self) -> str:
        return f"Anthropic({self._remote})"

    async def complete(self, request: CompletionRequest, emit: Emit) -> Completion:
        continues = self._prefill and _continuable(request)
        body = _body(request, continues=continues)
        return await self._remote.complete(
            request, emit, lambda exchange: exchange.post(body), continues=continues
        )

    async def relay(self, url: str, model: str, body: bytes) -> Relayed:
        request = from_openai(url, model, body)
        completion = await self._remote.complete(
            request,
            lambda _: None,
            lambda exchange: exchange.post(_body(request, continues=False)),
            continues=False,
            once=True,
        )
        return as_openai(completion)

    async def aclose(self) -> None:
        await self._remote.aclose()


def _continuable(request: CompletionRequest) -> bool:
    prefix = request.prefix
    return (
        prefix != ""
        and not prefix[-1].isspace()
        and request.schema is None
        and "thinking" not in request.options
    )


def _body(request: CompletionRequest, *, continues: bool) -> dict[str, Any]:
    """The system prompt stands beside the messages; those without a word in them would be refused."""
    said = [message for message in request.messages if message.content.strip()]
    messages = [{"role": m.role, "content": m.content} for m in said if m.role != "system"]
    if continues:
        messages.append({"role": "assistant", "content": request.prefix})
    options = {"max_tokens": MAX_TOKENS, **request.options}
    if (stop := options.pop("stop", None)) is not None:
        options["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if system := [message.content for message in said if message.role == "system"]:
        options["system"] = "\n\n".join(system)
    if request.schema is not None:
        form = {"type": "json_schema", "schema": _closed(request.schema)}
        given = options.get("output_config")
        options["output_config"] = {**(given if isinstance(given, dict) else {}), "format": form}
    return {**options, "model": request.model, "messages": messages, "stream": request.stream}


def _closed(schema: Any) -> Any:
    """The schema with every object closed that does not say whether it is: the API takes closed ones only.

    What satisfies it satisfies the one that was given. The rest stays as it is, also what the API then refuses.
    """
    if not isinstance(schema, dict):
        return schema
    found = dict(schema)
    if schema.get("type") == "object" or "properties" in schema:
        found.setdefault("additionalProperties", False)
    for key in found.keys() & _NAMED_SCHEMAS:
        if isinstance(schema[key], dict):
            found[key] = {name: _closed(one) for name, one in schema[key].items()}
    for key in found.keys() & _SCHEMAS:
        if isinstance(schema[key], list):
            found[key] = [_closed(one) for one in schema[key]]
    if "items" in found:
        found["items"] = _closed(schema["items"])
    return found
