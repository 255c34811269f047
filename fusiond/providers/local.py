"""The embedded model: llama.cpp's own server inside this process, reached over a Unix socket in a private folder.

What was measured (2 cores, SmolLM2-135M Q4_1, xllamacpp 2026.10), and is decided here because of it:

- The template in SmolLM2's file puts a system prompt of its own before every conversation that has none. In four bits
  it ruins the model ("What is the capital of France?" → "L'Étoile, la Marseillaise, la femme…"); plain ChatML does
  not: 74 of 90 short questions answered rightly against 64. Sampling is what its authors recommend.
- OpenMP's threads spin while they wait for each other. On a busy machine that costs nearly everything: 3 tokens/s
  instead of 36 with one other process at work. So they sleep instead.
- `fit_params` loads the model twice to see whether it fits: 0.67 s instead of 0.42 s. `warmup` changes nothing.
- A key-value cache of 8 bits saves 85 MB, and doubles the time for a prompt of 1,500 tokens. So it has 16.
- Between two batches the server looks up: until then a cancel is not seen, and other streams stand still. With the
  usual 2,048 tokens that is 17 s; with 128 about one, and a prompt takes no longer.
- Idle conversations are kept in up to 8 GB of memory unless told otherwise.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from fusiond.errors import BadRequest, ConfigError
from fusiond.models import SMOLLM2
from fusiond.protocol.chat import Completion, CompletionRequest, Relayed
from fusiond.providers.base import Emit
from fusiond.providers.client import Client
from fusiond.providers.openai import OpenAI
from fusiond.providers.refusals import FOREIGN
from fusiond.providers.settings import Limits, ProviderConfig, Retries

SLOTS = 4
"""Conversations answered at once; they share the context."""

CONTEXT = 8192
BATCH = 128
KEPT_CONVERSATIONS_MB = 64
LONGEST_SOCKET_PATH = 107
_ALIVE_S = 2.0

_TEMPLATES: Mapping[str, str] = {SMOLLM2.name: "chatml"}
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    SMOLLM2.name: {
        "temperature": 0.2,
        "top_p": 0.9,
        "max_tokens": 1024,
    }  # asked for a long story it never ends
}


def _llama() -> ModuleType | None:
    """The binding, None if it is not installed. OpenMP reads its policy once, when it is loaded with it."""
    before = os.environ.get("OMP_WAIT_POLICY")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        return importlib.import_module("xllamacpp")
    except ImportError:
        return None
    finally:
        if before is None:
            del os.environ["OMP_WAIT_POLICY"]  # ours alone, not that of whatever this process starts


_xllamacpp = _llama()
_never_ended: list[Any] = []
_numbers = itertools.count()


class LocalModel:
    """One model file, loaded by `load` and asked by `complete`. Socket in `folder`, which only we may enter."""

    def __init__(
        self,
        name: str,
        file: Path,
        folder: Path,
        *,
        limits: Limits = Limits(),  # noqa: B008 — frozen
        retries: Retries = Retries(),  # noqa: B008 — frozen
    ) -> None:
        self.name = name
        self._file = file
        self._socket = folder / f"{os.getpid()}.{next(_numbers)}.sock"  # llama.cpp knows it by its end
        self._options = _OPTIONS.get(name, {})
        self._slots = asyncio.Semaphore(SLOTS)
        self._server: Any = None
        config = ProviderConfig(base_url="http://local/v1", prefill=True)
        self._api = OpenAI("local", config, limits=limits, retries=retries, uds=str(self._socket))

    def __repr__(self) -> str:
        return f"LocalModel({self.name}, {'loaded' if self._server is not None else 'not loaded'})"

    def load(self) -> None:
        """Loads the model; blocks for about half a second. Raises ConfigError if it cannot be loaded."""
        if _xllamacpp is None:
            raise ConfigError(
                "the embedded model needs xllamacpp, which is not installed",
                advice="run: pip install 'fusion-runtime[local]'",
            )
        _make_private(self._socket.parent)
        if len(os.fsencode(self._socket)) > LONGEST_SOCKET_PATH:
            raise ConfigError(
                f"the path {self._socket} is too long for a socket", advice="use a shorter FUSION_HOME"
            )
        self._socket.unlink(missing_ok=True)
        try:
            self._server = _xllamacpp.Server(self._parameters(_xllamacpp))
        except RuntimeError:
            raise ConfigError(
                f"llama.cpp cannot load {self._file}", advice="see the log of this actor for its reasons"
            ) from None

    def _parameters(self, llama: ModuleType) -> Any:
        given = llama.CommonParams()
        given.model.path = str(self._file)
        given.model_alias = {f"local/{self.name}"}  # in replies, instead of the path
        given.chat_template = _TEMPLATES.get(self.name, "")
        given.hostnames = [str(self._socket)]
        given.n_ctx = CONTEXT
        given.n_parallel = SLOTS
        given.n_batch = given.n_ubatch = BATCH
        given.kv_unified = True  # otherwise each slot has a quarter of the context
        given.cache_ram_mib = KEPT_CONVERSATIONS_MB
        given.fit_params = False
        given.warmup = False
        given.ui = False
        given.verbosity = 1  # errors, to standard error
        return given

    async def complete(self, request: CompletionRequest, emit: Emit) -> Completion:
        """As `Provider.complete`. What finds no slot free waits here, so that taking it back costs nothing."""
        if not request.messages:
            raise BadRequest("there is no message to answer")
        options = {**self._options, **request.options}
        async with self._slots:
            return await self._api.complete(msgspec.structs.replace(request, options=options), emit)

    async def relay(self, url: str, model: str, body: bytes) -> Relayed:
        given: dict[str, Any] = msgspec.json.decode(body)
        async with self._slots:
            return await self._api.relay(url, model, msgspec.json.encode({**self._options, **given}))

    async def aclose(self) -> None:
        await self._api.aclose()
        if self._server is not None and not await self._works():
            _never_ended.append(self._server)
        self._server = None
        self._socket.unlink(missing_ok=True)

    async def _works(self) -> bool:
        """Whether the server's own loop runs. Ended before it does, the server waits for ever, and we with it."""
        client = Client("http://local", {}, connect=_ALIVE_S, uds=str(self._socket))
        try:
            async with asyncio.timeout(_ALIVE_S), client.send("GET", "/slots") as response:
                await response.aread()
        except (*FOREIGN, TimeoutError):
            return False
        else:
            return True
        finally:
            await client.aclose()


def _make_private(folder: Path) -> None:
    """Makes the folder, for us alone, and removes the sockets of processes that are gone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for socket in folder.iterdir():
        pid = socket.name.partition(".")[0]
        if not (pid.isdigit() and Path(f"/proc/{pid}").exists()):
            with suppress(OSError):
                socket.unlink()
