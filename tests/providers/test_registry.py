"""From `provider/name` to the provider; a slip of the finger is told what was meant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fusiond.errors import ConfigError, ModelMissing, UnknownModel
from fusiond.providers.anthropic import Anthropic
from fusiond.providers.openai import OpenAI
from fusiond.providers.registry import Providers
from fusiond.providers.settings import LlmConfig, ProviderConfig


@asynccontextmanager
async def loading() -> AsyncIterator[None]:
    yield


@pytest.fixture
async def providers(tmp_path: Path) -> AsyncIterator[Providers]:
    config = LlmConfig(
        model="mylab/qwen3-8b",
        models_dir=str(tmp_path),
        run_dir=str(tmp_path),
        providers={
            "openai": ProviderConfig(api_key="k"),
            "mylab": ProviderConfig(base_url="http://127.0.0.1:9/v1"),
            "claude": ProviderConfig(kind="anthropic"),
        },
    )
    made = Providers(config, loading)
    yield made
    await made.aclose()


async def test_a_model_is_its_provider_and_a_name_that_may_have_slashes(providers: Providers) -> None:
    provider, name = await providers.find("mylab/meta/llama-3")
    assert isinstance(provider, OpenAI)
    assert name == "meta/llama-3"


async def test_a_provider_speaks_the_api_of_its_kind(providers: Providers) -> None:
    assert isinstance((await providers.find("claude/claude-haiku-4-5"))[0], Anthropic)


async def test_a_provider_is_made_once(providers: Providers) -> None:
    assert (await providers.find("mylab/a"))[0] is (await providers.find("mylab/b"))[0]


@pytest.mark.parametrize(
    ("model", "meant"),
    [
        ("openia/gpt-4o", "openai/gpt-4o"),
        ("MyLab/x", "mylab/x"),
        ("lokal/smollm2", "local/smollm2"),
        ("smollm2", "local/smollm2"),
        ("smollm", "local/smollm2"),
        ("qwen3-8b", "mylab/qwen3-8b"),
        ("local/smollm", "local/smollm2"),
    ],
)
async def test_a_typo_is_told_the_nearest_name(providers: Providers, model: str, meant: str) -> None:
    with pytest.raises(UnknownModel) as raised:
        await providers.find(model)
    assert f"did you mean {meant}?" in str(raised.value)


@pytest.mark.parametrize("model", ["", "/", "openai/", "/gpt-4o", "xyzzy"])
async def test_what_is_no_name_at_all_is_told_how_one_is_written(providers: Providers, model: str) -> None:
    with pytest.raises(UnknownModel, match="provider/name"):
        await providers.find(model)


async def test_what_is_like_nothing_is_told_what_there_is(providers: Providers) -> None:
    with pytest.raises(UnknownModel, match="there are: claude, local, mylab, openai"):
        await providers.find("xyzzy/plugh")


async def test_an_embedded_model_not_fetched_yet_is_missing(providers: Providers) -> None:
    with pytest.raises(ModelMissing, match="fusionctl models pull"):
        await providers.find("local/smollm2")


async def test_a_file_that_was_added_and_is_gone_is_a_fault_of_the_configuration(
    providers: Providers, tmp_path: Path
) -> None:
    (tmp_path / "models.toml").write_text('[models]\nmine = "/nowhere/mine.gguf"\n')
    with pytest.raises(ConfigError, match=r"/nowhere/mine\.gguf"):
        await providers.find("local/mine")


async def test_a_key_never_stands_in_a_repr() -> None:
    config = ProviderConfig(api_key="sk-very-secret", base_url="http://h")
    assert "secret" not in repr(config) + repr(OpenAI("lab", config)) + repr(Anthropic("lab", config))
    assert "secret" not in repr(LlmConfig(model="", models_dir="", run_dir="", providers={"lab": config}))
