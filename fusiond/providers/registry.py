"""From `provider/name` to the provider that is asked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from fusiond import models
from fusiond.config.naming import nearest
from fusiond.errors import FusionError, UnknownModel
from fusiond.providers.anthropic import Anthropic
from fusiond.providers.base import Loading, Provider
from fusiond.providers.openai import OpenAI
from fusiond.providers.settings import LlmConfig, ProviderConfig

if TYPE_CHECKING:
    from fusiond.providers.local import LocalModel

LOCAL = "local"


class Providers:
    """The providers of one configuration; each is made when it is first asked. Call inside a running loop."""

    def __init__(self, config: LlmConfig, loading: Loading) -> None:
        self._config = config
        self._loading = loading
        self._remote: dict[str, Provider] = {}
        self._local: dict[str, LocalModel] = {}
        self._one_load = asyncio.Lock()

    async def find(self, model: str) -> tuple[Provider, str]:
        """The provider of `provider/name`, and the name inside it; loads an embedded model that is not loaded yet.

        Raises UnknownModel with the nearest name, ModelMissing if an embedded model has not been fetched, ConfigError
        if its file is gone or cannot be loaded.
        """
        provider, slash, name = model.partition("/")
        if not slash or not provider or not name:
            raise self._no_such(model)
        if provider == LOCAL:
            return await self._embedded(name), name
        if provider not in self._remote:
            if provider not in self._config.providers:
                raise self._no_such(model)
            self._remote[provider] = self._open(provider, self._config.providers[provider])
        return self._remote[provider], name

    async def find_for(self, named: str, model: str) -> tuple[Provider, str]:
        """The same for a body that names its model: `provider/name`, or a name of the provider of `model`, or none."""
        provider = named.partition("/")[0] if "/" in named else ""
        if named and provider not in (LOCAL, *self._config.providers):
            return await self.find(f"{model.partition('/')[0]}/{named}")
        return await self.find(named or model)

    async def aclose(self) -> None:
        for provider in (*self._remote.values(), *self._local.values()):
            await provider.aclose()
        self._remote.clear()
        self._local.clear()

    def _open(self, name: str, config: ProviderConfig) -> Provider:
        kind = Anthropic if config.kind == "anthropic" else OpenAI
        return kind(name, config, limits=self._config.limits, retries=self._config.retries)

    async def _embedded(self, name: str) -> LocalModel:
        if name in self._local:
            return self._local[name]
        async with self._one_load:
            if name not in self._local:
                file = models.locate(Path(self._config.models_dir), name)
                folder = Path(self._config.run_dir) / "llm"
                async with self._loading():
                    from fusiond.providers.local import LocalModel  # llama.cpp: 7 MB, for those who use it

                    model = LocalModel(
                        name, file, folder, limits=self._config.limits, retries=self._config.retries
                    )
                    model.load()
                self._local[name] = model
        return self._local[name]

    def _no_such(self, model: str) -> FusionError:
        known = [LOCAL, *self._config.providers]
        provider, slash, name = model.partition("/")
        if provider and slash and name:
            near = nearest(provider, known)
            meant = f" (did you mean {near}/{name}?)" if near else ""
            return UnknownModel(
                f'there is no provider "{provider}"{meant}', advice=f"there are: {', '.join(sorted(known))}"
            )
        near = self._nearest_whole(model.strip("/"))
        meant = f" (did you mean {near}?)" if near else ""
        return UnknownModel(
            f'a model is named provider/name, not "{model}"{meant}', advice="see: fusionctl models"
        )

    def _nearest_whole(self, name: str) -> str | None:
        """The known `provider/name` that a bare name was meant to be."""
        default = self._config.model
        here = [f"{LOCAL}/{one.name}" for one in models.present(Path(self._config.models_dir))]
        by_name = {full.partition("/")[2]: full for full in (*here, default) if "/" in full}
        near = nearest(name, by_name)
        return by_name[near] if near else None
