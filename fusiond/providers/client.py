"""The HTTP client of the providers: httpx's interface on aiohttp's transport, several times faster under load.

It drives the transport itself: `httpx.AsyncClient` costs 110 µs a request for cookies, redirects and logging that no
API here needs, as much as half of everything else. What that client would have read from the environment is read here.
"""

from __future__ import annotations

import base64
import functools
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from fusiond import __version__
from fusiond.errors import ConfigError
from fusiond.providers.stack import AiohttpTransport

MOST_CONNECTIONS = 1024
KEEP_IDLE_S = 30.0


class Client:
    """Posts JSON to one API. Obeys HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE; connects when first used.

    `connect` in seconds is the only limit here; others are the caller's. `uds`: the path of a Unix socket to speak to
    instead of the URL's host. What it raises is httpx's, aiohttp's and the operating system's, and ConfigError where
    the environment is wrong.
    """

    def __init__(
        self, base_url: str, headers: Mapping[str, str], *, connect: float, uds: str | None = None
    ) -> None:
        self._base = base_url.rstrip("/")
        self._headers = httpx.Headers(
            {
                "user-agent": f"fusion/{__version__}",
                "accept": "*/*",
                "accept-encoding": "identity",  # a compressed stream arrives in lumps
                "content-type": "application/json",
                **headers,
            }
        )
        # aiohttp reads httpx's "pool" as the limit of the whole of connecting: name look-up, TLS and proxy included.
        self._extensions = {"timeout": {"connect": connect, "pool": connect}}
        self._uds = uds
        self._transport: AiohttpTransport | None = None
        self._urls: dict[str, httpx.URL] = {}

    @asynccontextmanager
    async def send(self, method: str, path: str, body: bytes | None = None) -> AsyncIterator[httpx.Response]:
        """The response as soon as its headers are there; leaving the context before its end closes the connection."""
        url = self._urls.get(path) or self._resolved(path)
        if self._transport is None:
            self._transport = self._open(url)
        # given as a stream, the body costs httpx no look at what it might be: 10 µs
        stream = httpx.ByteStream(body or b"")
        request = httpx.Request(
            method, url, headers=self._headers, stream=stream, extensions=self._extensions
        )
        request.read()
        response = await self._transport.handle_async_request(request)
        try:
            yield response
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    def _resolved(self, path: str) -> httpx.URL:
        url = httpx.URL(self._base + path)
        if url.userinfo:
            self._headers["authorization"] = (
                f"Basic {base64.b64encode(f'{url.username}:{url.password}'.encode()).decode()}"
            )
            url = url.copy_with(username=None, password=None)
        self._urls[path] = url
        return url

    def _open(self, url: httpx.URL) -> AiohttpTransport:
        limits = httpx.Limits(max_connections=MOST_CONNECTIONS, keepalive_expiry=KEEP_IDLE_S)
        if self._uds is not None:
            return AiohttpTransport(verify=False, limits=limits, uds=self._uds)
        return AiohttpTransport(verify=_certificates(), limits=limits, proxy=_proxy_for(url))


def pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it arrives."""
    if "content-encoding" in response.headers or not isinstance(response.stream, httpx.AsyncByteStream):
        return response.aiter_bytes()
    return aiter(response.stream)


@functools.cache
def _certificates() -> ssl.SSLContext:
    """The authorities to trust: SSL_CERT_FILE, SSL_CERT_DIR, else certifi's. Loading them takes ~20 ms: once."""
    try:
        return httpx.create_ssl_context()
    except (OSError, ssl.SSLError):
        raise ConfigError(
            "the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read",
            advice="correct or unset it",
        ) from None


def _proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    """What HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say of this URL."""
    proxies = urllib.request.getproxies()
    found = proxies.get(url.scheme) or proxies.get("all")
    if not found or urllib.request.proxy_bypass(url.netloc.decode()):
        return None
    try:
        proxy = httpx.Proxy(found if "://" in found else f"http://{found}")
    except (ValueError, httpx.InvalidURL):
        proxy = None
    if proxy is None or proxy.url.scheme not in ("http", "https") or not proxy.url.host:
        raise ConfigError(
            f"{url.scheme.upper()}_PROXY or ALL_PROXY names no HTTP proxy",
            advice="correct or unset it, or set NO_PROXY",
        )
    return proxy
