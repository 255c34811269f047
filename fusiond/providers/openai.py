"""Chat Completions, as OpenAI and everything compatible speaks it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import httpx
import msgspec

from fusiond.config.naming import nearest
from fusiond.errors import BadReply, BadRequest, FusionError, UnknownModel
from fusiond.protocol.chat import Completion, CompletionRequest
from fusiond.providers.answer import Answer, Patience
from fusiond.providers.base import Emit
from fusiond.providers.client import Client
from fusiond.providers.openai_replies import Reading, body_of
from fusiond.providers.refusals import FOREIGN, Api, broken, no_answer, no_key, read, refused
from fusiond.providers.retrying import until_answered
from fusiond.providers.settings import Limits, ProviderConfig, Retries

DEFAULT_URL = "https://api.openai.com/v1"
_LIST_MODELS_S = 5.0

_encode = msgspec.json.Encoder().encode


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
        url = config.base_url or DEFAULT_URL
        keep = f"providers.{name}.api_key_file in the configuration"
        env = config.api_key_env or (
            "OPENAI_API_KEY" if name == "openai" else f"providers.{name}.api_key_env"
        )
        self._api = Api(name, _without_password(url), f"{env} or {keep}", config.api_key)
        self._needs_key = url.startswith(DEFAULT_URL)
        self._prefill = config.prefill
        self._limits = limits
        self._retries = retries
        self._counts: bool | None = None  # whether it takes stream_options; None until it has shown
        headers = {"authorization": f"Bearer {config.api_key}"} if config.api_key else {}
        self._client = Client(url, headers, connect=limits.connect, uds=uds)

    def __repr__(self) -> str:
        return f"OpenAI({self._api.name}, {self._api.url})"

    async def complete(self, request: CompletionRequest, emit: Emit) -> Completion:
        if self._needs_key and not self._api.secret:
            raise no_key(self._api)
        answer = Answer(request, emit, continues=bool(request.prefix) and self._prefill)
        body = self._body(request)
        async with Patience(self._limits, answer, self._api.name, stream=request.stream) as patience:
            await until_answered(
                lambda: self._ask(request, body, answer, patience), self._retries, patience.remaining
            )
        return answer.completion(request.model)

    async def aclose(self) -> None:
        await self._client.aclose()

    # --- asking ------------------------------------------------------------------------------------------------------

    def _body(self, request: CompletionRequest) -> dict[str, Any]:
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        if request.prefix and self._prefill:
            messages.append({"role": "assistant", "content": request.prefix})
        body = {**request.options, "model": request.model, "messages": messages, "stream": request.stream}
        if request.schema is not None:
            form = {"name": "answer", "schema": request.schema, "strict": _can_be_strict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body

    async def _ask(
        self, request: CompletionRequest, body: dict[str, Any], answer: Answer, patience: Patience
    ) -> None:
        """Asks once; a server that does not know `stream_options` is asked again without."""
        if not request.stream or self._counts is False:
            return await self._post(request, body, answer, patience)
        options = body.get("stream_options") or {}
        try:
            await self._post(
                request, {**body, "stream_options": {"include_usage": True, **options}}, answer, patience
            )
        except BadRequest as error:
            if self._counts or answer.started or type(error) is not BadRequest:
                raise
            await self._post(request, body, answer, patience)
            self._counts = False
        else:
            self._counts = True
        return None

    async def _post(
        self, request: CompletionRequest, body: dict[str, Any], answer: Answer, patience: Patience
    ) -> None:
        answer.asked += 1
        answer.finish_reason = None
        reading = Reading(self._api, request.model, answer)
        try:
            async with self._client.send("POST", "/chat/completions", _encode(body)) as response:
                if response.status_code != 200:
                    raise await self._refused(response, request.model)
                kind = response.headers.get("content-type", "")
                if "html" in kind:
                    raise no_answer(self._api, "a web page")
                if request.stream and "json" not in kind:
                    await reading.stream(response, patience)
                else:
                    reading.whole(await body_of(response))
        except FOREIGN as error:
            raise broken(self._api, error, started=answer.started, connect=self._limits.connect) from error

    # --- refusals ----------------------------------------------------------------------------------------------------

    async def _refused(self, response: httpx.Response, model: str) -> FusionError:
        error = refused(
            self._api, model, response.status_code, response.headers, read(await body_of(response))
        )
        if isinstance(error, UnknownModel) and (near := await self._nearest(model)):
            return UnknownModel(
                f"{error.message} (did you mean {self._api.name}/{near}?)", advice=error.advice
            )
        return error

    async def _nearest(self, model: str) -> str | None:
        """The model of this API whose name is most like `model`, None if it does not list them."""
        with suppress(
            *FOREIGN, TimeoutError, msgspec.DecodeError, BadReply, AttributeError, TypeError, KeyError
        ):
            async with asyncio.timeout(_LIST_MODELS_S), self._client.send("GET", "/models") as response:
                listed = msgspec.json.decode(await body_of(response))
                return nearest(model, [str(one["id"]) for one in listed["data"]])
        return None


def _without_password(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "the base_url"
    return str(parsed.copy_with(username=None, password=None)) if parsed.userinfo else url


def _can_be_strict(schema: Any) -> bool:
    """Whether the schema is one that OpenAI takes as strict: every object closed, all its properties required."""
    if isinstance(schema, list):
        return all(map(_can_be_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        properties = schema.get("properties") or {}
        if schema.get("additionalProperties") is not False or set(schema.get("required") or ()) != set(
            properties
        ):
            return False
    return all(map(_can_be_strict, schema.values()))
