"""What an API's refusals and broken connections mean, in the terms of `fusiond.errors`; translated nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
import msgspec

from fusiond.errors import (
    BadReply,
    BadRequest,
    ConfigError,
    ContentRefused,
    ContextTooLong,
    Denied,
    FusionError,
    Interrupted,
    KeyRefused,
    ProviderDown,
    RateLimited,
    UnknownModel,
)
from fusiond.providers.retrying import retry_after
from fusiond.providers.stack import aiohttp

FOREIGN = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    aiohttp.ClientError,
    OSError,
    UnicodeError,  # a host that cannot be a name
)
"""What a request may raise that is not ours. (A TimeoutError is an OSError; our own limits are not seen here.)"""

_KEYS = re.compile(r"\b(?:sk|key|pk)-[\w*.\-]{4,}")
_TOO_LONG = re.compile(
    r"context.{0,12}(?:length|size|window|limit)|maximum context|prompt is too long|too many tokens",
    re.IGNORECASE,
)
_REFUSED = {"content_filter", "content_policy_violation", "responsibleaipolicyviolation"}
_NO_CREDIT = {
    "insufficient_quota",
    "billing_hard_limit_reached",
    "insufficient_balance",
    "credit_balance_too_low",
}
_NO_CREDIT_WORDS = "credit balance is too low"  # Anthropic says so under the code of any bad request
_STATUS = {
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "invalid_request_error": 400,
    "model_not_found": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status that an error inside a reply would have had by itself."""
_LONGEST_QUOTE = 300


class Api(NamedTuple):
    """An API as errors speak of it. `key_from`: where the person keeps its key; `secret`: the key, to be left out."""

    name: str
    url: str
    key_from: str
    secret: str


class Refusal(NamedTuple):
    """An error body, whatever its shape: codes and types in lower case, the words as they stand."""

    codes: frozenset[str]
    words: str
    body: Any


def read(body: bytes) -> Refusal:
    """An API's error body; one that is no JSON has no words."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Refusal(frozenset(), "", None)
    return of(found)


def of(found: Any) -> Refusal:
    """The same of a body already decoded: `{"error": {…}}`, `{"error": "…"}`, `[{…}]`, `{"message"}`, `{"detail"}`."""
    body = found
    if isinstance(found, list) and found:
        found = found[0]
    if isinstance(found, dict) and found.get("error"):
        found = found["error"]
    if isinstance(found, str):
        return Refusal(frozenset(), found, body)
    if not isinstance(found, dict):
        return Refusal(frozenset(), "", body)
    inner = found.get("innererror")
    places = (found, inner) if isinstance(inner, dict) else (found,)
    codes = {
        str(place[key]).lower() for place in places for key in ("code", "type", "status") if place.get(key)
    }
    words = found.get("message") or found.get("detail") or ""
    return Refusal(
        frozenset(codes), words if isinstance(words, str) else msgspec.json.encode(words).decode(), body
    )


def refused(api: Api, model: str, status: int, headers: Mapping[str, str], refusal: Refusal) -> FusionError:
    """The error that an answer with `status` (not 2xx) is."""
    quote = _quote(refusal.words, api)
    wait = retry_after(headers, refusal.body, refusal.words)
    if status == 402 or refusal.codes & _NO_CREDIT or _NO_CREDIT_WORDS in refusal.words.lower():
        return Denied(f"the account at {api.name} has no credit left", advice="see its plan and billing")
    if status in (401, 403):
        return _key(api, quote if status == 403 else "")
    if status == 429:
        return RateLimited(f"{api.name} asks to slow down{quote}", advice="try again later", retry_after=wait)
    if status in (408, 409, 425) or status >= 500:
        return ProviderDown(
            f"{api.name} answers HTTP {status}{quote}", advice="try again later", retry_after=wait
        )
    if 300 <= status < 400:
        return ConfigError(
            f"{api.url} redirects elsewhere",
            advice=f"correct providers.{api.name}.base_url in the configuration",
        )
    return _unsuitable(api, model, status, refusal, quote)


def inside(api: Api, model: str, said: Any, *, started: bool) -> FusionError:
    """An error inside a reply that began as a good one: in a stream, or from a gateway.

    `started`: a piece of the answer had been passed on.
    """
    refusal = of({"error": said})
    numbers = (int(code) for code in refusal.codes if code.isdigit() and 400 <= int(code) < 600)
    status = next(numbers, 0) or max((_STATUS.get(code, 0) for code in refusal.codes), default=0) or 502
    if started and status >= 429:
        return cut_off(api, started=True)
    return refused(api, model, status, {}, refusal)


def _unsuitable(api: Api, model: str, status: int, refusal: Refusal, quote: str) -> FusionError:
    """A refusal that repeating the request would not mend."""
    codes, words = refusal.codes, refusal.words.lower()
    if (
        status == 413
        or codes & {"context_length_exceeded", "exceed_context_size_error"}
        or _TOO_LONG.search(words)
    ):
        return ContextTooLong(
            f"the conversation is too long for {api.name}/{model}{quote}",
            advice="begin a new session, or shorten it",
        )
    if codes & _REFUSED:
        return declined(api, refusal.words)
    if "model_not_found" in codes or (status == 404 and "model" in words):
        return UnknownModel(f'{api.name} knows no model "{model}"', advice="name another one with --model")
    if status == 404:
        return ConfigError(
            f"{api.url} answers HTTP 404: there is no such API",
            advice=f"correct providers.{api.name}.base_url in the configuration",
        )
    return BadRequest(f"{api.name} does not accept the request (HTTP {status}){quote}")


def declined(api: Api, words: str = "") -> ContentRefused:
    """The model does not want to answer, for the reason in its `words`."""
    return ContentRefused(f"{api.name} declines to answer this{_quote(words, api)}")


def no_key(api: Api) -> KeyRefused:
    """None was given where one is needed."""
    return KeyRefused(f"there is no key for {api.name}", advice=f"set {api.key_from}")


def _key(api: Api, quote: str) -> KeyRefused:
    if not api.secret:
        return no_key(api)
    return KeyRefused(f"{api.name} refuses the key{quote}", advice=f"correct {api.key_from}")


def _quote(words: str, api: Api) -> str:
    """The API's own words on one line, as `: words`; never the key, nor what looks like a part of one."""
    words = " ".join(words.split())
    if api.secret:
        words = words.replace(api.secret, "…")
    words = _KEYS.sub("…", words)
    if len(words) > _LONGEST_QUOTE:
        words = words[:_LONGEST_QUOTE] + "…"
    return f": {words}" if words else ""


def no_answer(api: Api, what: str) -> BadReply:
    """A reply that is none: `what` says what came instead."""
    return BadReply(
        f"{api.url} answers {what} instead of a completion", advice=f"is providers.{api.name}.base_url right?"
    )


def cut_off(api: Api, *, started: bool) -> FusionError:
    """The reply ended before its end; `started`: a piece of it had been passed on."""
    if started:
        return Interrupted(f"the connection to {api.name} broke in the middle of its answer")
    return ProviderDown(f"{api.url} closed the connection before it had answered", advice="is it running?")


def broken(api: Api, error: BaseException, *, started: bool, connect: float) -> FusionError:
    """What a failed connection means; `started`: a piece of the answer had been passed on."""
    cause = error if isinstance(error, aiohttp.ClientError) else error.__cause__ or error
    if started or isinstance(cause, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        return cut_off(api, started=started)
    if isinstance(cause, aiohttp.ClientConnectorSSLError):
        return ConfigError(
            f"{api.url} does not speak TLS as it should", advice="should it begin with http:// instead?"
        )
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        return ConfigError(
            f"the certificate of {api.url} is not trusted", advice="name its authority with SSL_CERT_FILE"
        )
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | UnicodeError) or isinstance(
        cause, aiohttp.InvalidURL
    ):
        return ConfigError(f"{api.url} is no URL to ask", advice=f"correct providers.{api.name}.base_url")
    if isinstance(cause, aiohttp.ClientHttpProxyError | aiohttp.ClientProxyConnectionError):
        return ProviderDown(
            f"the proxy on the way to {api.name} does not let us through", advice="see HTTPS_PROXY"
        )
    if isinstance(cause, aiohttp.ClientResponseError):
        return BadReply(f"{api.url} does not speak HTTP", advice=f"is providers.{api.name}.base_url right?")
    return ProviderDown(f"{api.url} {_what_happened(cause, connect)}", advice="is it running, and reachable?")


def _what_happened(cause: BaseException, connect: float) -> str:
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        return "has no address: the name is not known"
    if isinstance(cause, aiohttp.ServerTimeoutError | TimeoutError):
        return f"accepts no connection within {connect:g} s"
    errno = cause.errno if isinstance(cause, OSError) else None
    return f"cannot be reached: {os.strerror(errno)}" if errno and errno > 0 else "cannot be reached"
