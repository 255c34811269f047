"""The default model's provider: reached, and the key taken. The key goes into one header and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from fusionctl.doctor.case import Case
from fusionctl.doctor.finding import Finding
from fusiond import config as configuration
from fusiond.config import BUILT_IN_PROVIDERS, LOCAL, ProviderSettings

if TYPE_CHECKING:
    import httpx

CHECK = "provider"
_CONNECT, _WHOLE = 4.0, 8.0  # seconds
_UNLISTED = (404, 405, 501)  # an API without a list of models


class Question(NamedTuple):
    """`name`/`model` is the model in question. `shown`: the base URL without what is secret in it."""

    name: str
    model: str
    provider: ProviderSettings
    shown: str
    key: str

    @property
    def who(self) -> str:
        return f"{self.name} ({self.shown})"

    @property
    def url(self) -> str:
        """Where the API lists its models; Anthropic's base is without the version."""
        base = self.provider.base_url.rstrip("/")
        if self.provider.kind == "anthropic":
            return f"{base.removesuffix('/v1')}/v1/models?limit=1000"
        return f"{base}/models"

    @property
    def headers(self) -> dict[str, str]:
        if self.provider.kind == "anthropic":
            return {"anthropic-version": "2023-06-01"} | ({"x-api-key": self.key} if self.key else {})
        return {"authorization": f"Bearer {self.key}"} if self.key else {}

    @property
    def key_place(self) -> str:
        """Where the person keeps the key."""
        if self.provider.api_key_file:
            return f"put the right one into {self.provider.api_key_file}, and have a running daemon reload"
        if self.provider.api_key_env:
            return f"set {self.provider.api_key_env} to the right one and restart the daemon"
        return f"name its place in providers.{self.name}: api_key_env or api_key_file"


def check(case: Case) -> Iterator[Finding]:
    """Asks the provider for its models, with the key that a daemon started from here would use."""
    if case.config is None:
        advice = "" if case.foreign else "correct it first"
        yield Finding(CHECK, case.foreign, "not asked: there is no configuration to go by", advice)
        return
    name, _, model = case.config.model.partition("/")
    if name == LOCAL:
        yield Finding(CHECK, True, f"none is asked: {case.config.model} runs here")
    elif case.foreign:
        yield Finding(CHECK, True, f"{name} is not asked: its key is the daemon's, not yours")
    else:
        yield _ask(_question(name, model, case.config, case))


def _question(name: str, model: str, config: configuration.Config, case: Case) -> Question:
    alone = replace(config, providers={name: config.providers[name]})
    key = configuration.resolve_keys(alone, case.env).get(name, "")
    shown = configuration.shown(alone)["providers"][name].get("base_url", "")
    return Question(name, model, config.providers[name], shown, key)


def _ask(question: Question) -> Finding:
    import httpx

    patience = httpx.Timeout(_WHOLE, connect=_CONNECT)
    try:
        reply = httpx.get(question.url, headers=question.headers, timeout=patience)
    except httpx.TimeoutException:
        return Finding(
            CHECK, False, f"{question.who} does not answer in time", "is the network up? a proxy needed?"
        )
    except httpx.TransportError as error:
        why = str(error).replace(question.key or "\0", "***") or type(error).__name__
        advice = f"is it running? is providers.{question.name}.base_url right?"
        return Finding(CHECK, False, f"{question.who} cannot be reached: {why}", advice)
    return judge(reply, question)


def judge(reply: httpx.Response, question: Question) -> Finding:
    """What the answer to `question` means. Nothing of its text is repeated: some repeat the key in it."""
    who, status = question.who, reply.status_code
    if status in (401, 403):
        what = "refuses the key" if question.key else "wants a key, and there is none"
        return Finding(CHECK, False, f"{who} {what} ({status})", question.key_place)
    if status == 429:
        return Finding(CHECK, True, f"{who} is there", "it asks to slow down just now (429)")
    if status in _UNLISTED:
        return Finding(CHECK, True, f"{who} is there; it does not list its models ({status})")
    if status >= 500:
        return Finding(
            CHECK, False, f"{who} answers {status}", "it is out of order just now; try again later"
        )
    ids = _ids(reply) if status == 200 else None
    if ids is None:
        what = "something that is no list of models" if status == 200 else str(status)
        return Finding(CHECK, False, f"{who} answers {what}", f"is providers.{question.name}.base_url right?")
    return _listed(ids, question)


def _listed(ids: list[str], question: Question) -> Finding:
    """A model that the maker's own API does not list does not exist; others list what they like."""
    if not ids or any(question.model in _names(id) for id in ids):
        return Finding(CHECK, True, f"{question.who} is there{' and takes the key' if question.key else ''}")
    from fusiond.config.naming import nearest

    built_in = BUILT_IN_PROVIDERS.get(question.name)
    own = built_in is not None and built_in.base_url == question.provider.base_url
    near = nearest(question.model, ids)
    advice = f"did you mean {question.name}/{near}?" if near else f"it lists {', '.join(ids[:3])}"
    return Finding(CHECK, not own, f"{question.who} does not list the model {question.model}", advice)


def _names(id: str) -> tuple[str, ...]:
    """What a model may be called: by its id, or without its date or its tag."""
    return id, re.sub(r"-(\d{8}|\d{4}-\d{2}-\d{2})$", "", id), id.partition(":")[0]


def _ids(reply: httpx.Response) -> list[str] | None:
    """The ids of the models listed, None where it is no such list."""
    try:
        document: Any = reply.json()
        return [str(one["id"]) for one in document["data"]]
    except (ValueError, TypeError, KeyError):
        return None
