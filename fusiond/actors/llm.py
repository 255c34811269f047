"""The llm actor: asks models for completions, many at once; the embedded model runs inside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from fusiond.actors.base import Actor, Call, Port
from fusiond.errors import BadRequest, ConfigError, ModelMissing
from fusiond.protocol.chat import Completion, CompletionChunk, CompletionRequest, RelayRequest
from fusiond.providers.registry import LOCAL, Providers
from fusiond.providers.settings import LlmConfig

log = logging.getLogger(__name__)

_LOOK = 1.0  # seconds between looks for a model that has not been fetched yet

_decode_request = msgspec.msgpack.Decoder(CompletionRequest).decode
_decode_relay = msgspec.msgpack.Decoder(RelayRequest).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode  # their values stay as they were written
_encode = msgspec.msgpack.Encoder().encode


class Llm(Actor):
    """`complete`: CompletionRequest → CompletionChunk* → Completion. `relay`: RelayRequest → Relayed."""

    def __init__(self, config: LlmConfig) -> None:
        self._config = config
        self._providers: Providers
        self._port: Port
        self._awaiting: asyncio.Task[None] | None = None
        self.verbs = {"complete": self._complete, "relay": self._relay}

    async def setup(self, port: Port) -> None:
        """Loads the embedded model if it is the default; one that has not been fetched yet is loaded when first asked.

        Raises ConfigError if its file is gone or is no model.
        """
        self._port = port
        self._providers = Providers(self._config, self._loading)
        if self._config.model.startswith(f"{LOCAL}/"):
            try:
                await self._providers.find(self._config.model)
            except ModelMissing as missing:
                log.warning("%s", missing)
                self._awaiting = asyncio.create_task(self._await_model())

    async def _await_model(self) -> None:
        """Loads the model as soon as somebody has fetched it, so that a standby is warm too."""
        while True:
            await asyncio.sleep(_LOOK)
            try:
                await self._providers.find(self._config.model)
            except ModelMissing:
                continue
            except ConfigError as error:
                log.error("%s", error)
            return

    async def teardown(self) -> None:
        if self._awaiting is not None:
            self._awaiting.cancel()
        await self._providers.aclose()

    async def _complete(self, call: Call) -> bytes:
        try:
            request = _decode_request(call.body)
        except msgspec.DecodeError as error:
            raise BadRequest(f"not a completion request: {error}") from None
        model = request.model or self._config.model
        provider, name = await self._providers.find(model)

        def emit(chunk: CompletionChunk) -> None:
            call.emit(_encode(chunk))

        completion = await provider.complete(msgspec.structs.replace(request, model=name), emit)
        return _encode(_named(completion, model))

    async def _relay(self, call: Call) -> bytes:
        try:
            request = _decode_relay(call.body)
            body = _decode_fields(request.body)
            named = msgspec.json.decode(body.get("model", b'""'), type=str)
        except msgspec.DecodeError as error:
            raise BadRequest(f"not a request to relay: {error}") from None
        provider, name = await self._providers.find_for(named, request.model or self._config.model)
        body["model"] = msgspec.Raw(msgspec.json.encode(name))
        return _encode(await provider.relay(request.url, name, msgspec.json.encode(body)))

    @asynccontextmanager
    async def _loading(self) -> AsyncIterator[None]:
        await self._port.loading()
        try:
            yield
        finally:
            self._port.loaded()


def _named(completion: Completion, model: str) -> Completion:
    return msgspec.structs.replace(completion, model=model)


_decode_config = msgspec.msgpack.Decoder(
    LlmConfig
).decode  # made before the fork: it takes half a millisecond


def create(config: bytes) -> Llm:
    """`config`: the msgpack of `LlmConfig`."""
    return Llm(_decode_config(config))
