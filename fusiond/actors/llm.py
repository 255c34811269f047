"""The llm actor (minimal)."""

from __future__ import annotations

from pathlib import Path

import msgspec

from fusiond import models
from fusiond.actors.base import Actor, Call, Port
from fusiond.errors import ModelMissing, UnknownModel
from fusiond.protocol.chat import CompletionRequest
from fusiond.providers.openai import OpenAI


class ProviderConfig(msgspec.Struct, frozen=True):
    kind: str
    base_url: str
    api_key: str = ""


class LlmConfig(msgspec.Struct, frozen=True):
    model: str
    providers: dict[str, ProviderConfig]
    models_dir: str
    run_dir: str


class Llm(Actor):
    def __init__(self, config: LlmConfig) -> None:
        self._config = config
        self._providers: dict[str, OpenAI] = {}
        self.verbs = {"complete": self._complete}

    async def setup(self, port: Port) -> None:
        self._port = port
        provider, _, name = self._config.model.partition("/")
        if provider == "local":
            try:
                self._load(name)
            except ModelMissing:
                pass

    def _load(self, name: str) -> OpenAI:
        path = models.locate(Path(self._config.models_dir), name)
        import xllamacpp

        p = xllamacpp.CommonParams()
        p.model.path = str(path)
        p.n_ctx, p.n_parallel, p.kv_unified, p.verbosity = 8192, 4, True, -1
        p.chat_template, p.warmup, p.fit_params, p.cache_ram_mib = "chatml", False, False, 64
        sock = Path(self._config.run_dir) / f"{self._port.name}.model.sock"
        sock.unlink(missing_ok=True)
        p.hostnames = [str(sock)]
        self._server = xllamacpp.Server(p)
        self._providers[f"local/{name}"] = OpenAI("http://model/v1/", "", uds=str(sock), prefill=True)
        return self._providers[f"local/{name}"]

    async def _complete(self, call: Call) -> bytes:
        request = msgspec.msgpack.decode(call.body, type=CompletionRequest)
        model = request.model or self._config.model
        provider, _, name = model.partition("/")
        found = self._providers.get(model if provider == "local" else provider)
        if found is None and provider == "local":
            await self._port.loading()
            found = self._load(name)
            self._port.loaded()
        elif found is None:
            c = self._config.providers.get(provider)
            if c is None:
                raise UnknownModel(f"no provider {provider!r}")
            found = self._providers[provider] = OpenAI(c.base_url, c.api_key)
        if provider == "local":
            request = msgspec.structs.replace(request, options={"temperature": 0.2, "top_p": 0.9, **request.options})
        done = await found.complete(name, request, lambda chunk: call.emit(msgspec.msgpack.encode(chunk)))
        return msgspec.msgpack.encode(msgspec.structs.replace(done, model=model))


def create(config: bytes) -> Llm:
    return Llm(msgspec.msgpack.decode(config, type=LlmConfig))
