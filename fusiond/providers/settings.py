"""What the llm actor must be told, as it travels to it in `Assign.config`. Cheap to import."""

from __future__ import annotations

from typing import Literal

import msgspec


class ProviderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """An API and how to reach it.

    `base_url`: up to the version, as in `http://127.0.0.1:8000/v1`, which Anthropic's own is without; "" for the
    kind's own service.
    `api_key_env`: where the person keeps the key, for what is said when it is refused.
    `prefill`: the API continues an assistant message at the end of the conversation instead of answering it.
    """

    kind: Literal["openai", "anthropic"] = "openai"
    base_url: str = ""
    api_key: str = ""
    api_key_env: str = ""
    prefill: bool = False

    def __repr__(self) -> str:
        return f"ProviderConfig({self.kind}, {self.base_url or 'default'}, key {'set' if self.api_key else 'unset'})"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long an API may take, in seconds.

    `first_token` counts from the request's start, repetitions included; `idle` from one token to the next, whatever
    keep-alives arrive in between; `total` holds for the whole answer. Whole replies know `connect` and `total` only.
    """

    connect: float = 10.0
    first_token: float = 180.0
    idle: float = 60.0
    total: float = 900.0


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """When to ask again: at most `attempts` times in all, after a random part of a pause that doubles each time.

    Pauses in seconds. A provider that asks for a longer pause than `longest_wait` is not waited for: whoever asked is
    told how long it takes.
    """

    attempts: int = 4
    first_pause: float = 0.5
    longest_pause: float = 8.0
    longest_wait: float = 30.0


class LlmConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`model`: the default, `provider/name`. `models_dir`: where the embedded models' files are.

    `run_dir`: a folder in which a private one for the embedded model's socket can be made; the path of that socket
    is `run_dir` and about twenty characters, and must end before byte 107.
    """

    model: str
    models_dir: str
    run_dir: str
    providers: dict[str, ProviderConfig] = {}
    limits: Limits = Limits()
    retries: Retries = Retries()
    log_level: str = "INFO"
