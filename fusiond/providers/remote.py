"""An API over HTTP: asked, asked again, its refusals told. What goes to and fro, each kind of API says for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import httpx
import msgspec

from fusiond.config.naming import nearest
from fusiond.errors import BadReply, DeadlineExceeded, FusionError, UnknownModel
from fusiond.protocol.chat import Completion, CompletionRequest, Relayed, Usage
from fusiond.providers.answer import Answer, Patience
from fusiond.providers.base import Emit
from fusiond.providers.client import Client
from fusiond.providers.refusals import (
    FOREIGN,
    Api,
    broken,
    declined,
    inside,
    no_answer,
    no_key,
    read,
    refused,
)
from fusiond.providers.replies import Reading, body_of, decoded, read_stream, tokens
from fusiond.providers.retrying import until_answered
from fusiond.providers.settings import Limits, ProviderConfig, Retries

_LIST_MODELS_S = 5.0
_ONCE = Retries(attempts=1)

_encode = msgspec.json.Encoder().encode


class _Used(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Counted(msgspec.Struct, frozen=True):
    """What is read of a reply that is passed on as it came."""

    usage: _Used | None = None
    error: Any = None


_decode_counted = msgspec.json.Decoder(_Counted)


class Kind(NamedTuple):
    """What APIs of one kind have of their own. `url`: the maker's own service; paths are below the base URL."""

    name: str
    url: str
    completions: str
    models: str
    reading: Callable[[Api, str, Answer], Reading]


class Exchange(NamedTuple):
    """One request under way, and what has come of it. `post` sends a body to the API once."""

    answer: Answer
    post: Callable[[Mapping[str, Any]], Awaitable[None]]


class Remote:
    """One API. `url`: its base; `headers`: sent with every request; `uds`: as in `Client`. Call inside a loop."""

    def __init__(
        self,
        kind: Kind,
        name: str,
        config: ProviderConfig,
        url: str,
        headers: Mapping[str, str],
        *,
        limits: Limits,
        retries: Retries,
        uds: str | None = None,
    ) -> None:
        keep = f"providers.{name}.api_key_file in the configuration"
        env = config.api_key_env or (
            f"{name.upper()}_API_KEY" if name == kind.name else f"providers.{name}.api_key_env"
        )
        self.api = Api(name, _without_password(url), f"{env} or {keep}", config.api_key)
        self._kind = kind
        self._needs_key = url.startswith(kind.url)
        self._limits = limits
        self._retries = retries
        self._client = Client(url, headers, connect=limits.connect, uds=uds)

    def __repr__(self) -> str:
        return f"{self.api.name}, {self.api.url}"

    async def complete(
        self,
        request: CompletionRequest,
        emit: Emit,
        ask: Callable[[Exchange], Awaitable[None]],
        *,
        continues: bool,
        once: bool = False,
    ) -> Completion:
        """As `Provider.complete`: `ask` posts the body, and, unless `once`, is called again after what may pass.

        `continues`: the API goes on from `request.prefix`.
        """
        if self._needs_key and not self.api.secret:
            raise no_key(self.api)
        answer = Answer(request, emit, continues=continues)
        async with Patience(self._limits, answer, self.api.name, stream=request.stream) as patience:
            exchange = Exchange(answer, lambda body: self._post(request, body, answer, patience))
            retries = _ONCE if once else self._retries
            await until_answered(lambda: ask(exchange), retries, patience.remaining)
        return answer.completion(request.model)

    async def relay(self, path: str, model: str, body: bytes) -> Relayed:
        """Posts `body` once; the reply as it came."""
        if self._needs_key and not self.api.secret:
            raise no_key(self.api)
        limit = self._limits.total
        try:
            async with asyncio.timeout(limit) as patience, self._client.send("POST", path, body) as response:
                if response.status_code != 200:
                    raise await self._refused(response, model)
                if "html" in response.headers.get("content-type", ""):
                    raise no_answer(self.api, "a web page")
                reply = await body_of(response)
        except FOREIGN as error:
            if isinstance(error, TimeoutError) and patience.expired():
                raise DeadlineExceeded(f"{self.api.name} has not answered within {limit:g} s") from error
            raise broken(self.api, error, started=False, connect=self._limits.connect) from error
        counted = decoded(self.api, _decode_counted, reply)
        if counted.error:
            raise inside(self.api, model, counted.error, started=False)
        used = counted.usage or _Used()
        usage = Usage(
            tokens(used.prompt_tokens if used.input_tokens is None else used.input_tokens),
            tokens(used.completion_tokens if used.output_tokens is None else used.output_tokens),
        )
        return Relayed(
            status=response.status_code,
            request=response.headers.get("x-request-id", ""),
            body=reply,
            usage=usage,
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _post(
        self, request: CompletionRequest, body: Mapping[str, Any], answer: Answer, patience: Patience
    ) -> None:
        answer.asked += 1
        answer.finish_reason = None
        reading = self._kind.reading(self.api, request.model, answer)
        try:
            async with self._client.send("POST", self._kind.completions, _encode(body)) as response:
                if response.status_code != 200:
                    raise await self._refused(response, request.model)
                kind = response.headers.get("content-type", "")
                if "html" in kind:
                    raise no_answer(self.api, "a web page")
                if request.stream and "json" not in kind:
                    await read_stream(self.api, response, reading, answer, patience)
                else:
                    reading.whole(await body_of(response))
        except FOREIGN as error:
            raise broken(self.api, error, started=answer.started, connect=self._limits.connect) from error
        if answer.finish_reason == "content_filter" and answer.empty:
            raise declined(self.api)

    async def _refused(self, response: httpx.Response, model: str) -> FusionError:
        error = refused(
            self.api, model, response.status_code, response.headers, read(await body_of(response))
        )
        if isinstance(error, UnknownModel) and (near := await self._nearest(model)):
            return UnknownModel(
                f"{error.message} (did you mean {self.api.name}/{near}?)", advice=error.advice
            )
        return error

    async def _nearest(self, model: str) -> str | None:
        """The model of this API whose name is most like `model`, None if it does not list them."""
        with suppress(
            *FOREIGN, TimeoutError, msgspec.DecodeError, BadReply, AttributeError, TypeError, KeyError
        ):
            async with (
                asyncio.timeout(_LIST_MODELS_S),
                self._client.send("GET", self._kind.models) as response,
            ):
                listed = msgspec.json.decode(await body_of(response))
                return nearest(model, [str(one["id"]) for one in listed["data"]])
        return None


def _without_password(url: str) -> str:
    """As it may be shown: a key may stand in its query too."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "the base_url"
    secret = parsed.userinfo or parsed.query
    return str(parsed.copy_with(username=None, password=None, query=None)) if secret else url
