"""Requests over HTTP, to public addresses unless configured otherwise."""

from __future__ import annotations

import ipaddress
import socket
import time
from typing import TYPE_CHECKING, Any

from fusiond.config.schema import HttpSettings
from fusiond.tools.api import Tool, ToolMetadata, ToolResult
from fusiond.tools.schema import ToolParameter

if TYPE_CHECKING:
    import httpx

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_REDIRECTS = 5
_TEXT = ("text/", "json", "xml", "javascript", "x-www-form-urlencoded", "yaml", "csv")
_SECRET = {"authorization", "cookie", "proxy-authorization"}
_TUNNEL = ipaddress.ip_network("64:ff9b::/96")
_SPECIAL = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "192.0.0.0/24", "192.88.99.0/24")))


class Refused(ValueError):
    """The request is not made; the text is for whoever asked."""


class HttpRequest(Tool):
    """The address that was checked is the one that is connected to, also after a redirect. No proxy of the
    environment is used: what it would reach cannot be checked.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings

    def metadata(self) -> ToolMetadata:
        text = {"type": "string"}
        return ToolMetadata(
            name="http_request",
            description="Makes an HTTP request and gives status, headers and the text of the reply.",
            parameters=[
                ToolParameter(name="url", schema=text, description="http:// or https://"),
                ToolParameter(
                    name="method",
                    schema={"type": "string", "enum": _METHODS},
                    description="default GET",
                    required=False,
                ),
                ToolParameter(
                    name="headers",
                    schema={"type": "object", "additionalProperties": text},
                    required=False,
                ),
                ToolParameter(name="body", schema=text, required=False),
            ],
            timeout_s=self._settings.timeout_s + 5,
        )

    def execute(self, arguments: dict[str, Any]) -> ToolResult:
        import httpx  # a tenth of a second, for those who need it

        try:
            return self._request(**arguments)
        except Refused as error:
            return ToolResult(ok=False, text=str(error))
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, ValueError) as error:
            words = str(error) or type(error).__name__
            return ToolResult(ok=False, text=f"the request failed: {words}")

    def _request(
        self, url: str, method: str = "GET", headers: dict[str, str] | None = None, body: str = ""
    ) -> ToolResult:
        import httpx

        until = time.monotonic() + self._settings.timeout_s
        target, sent = httpx.URL(url), dict(headers or {})
        with httpx.Client(trust_env=False, follow_redirects=False) as client:
            for _ in range(_REDIRECTS + 1):
                request = self._pinned(client, target, method, sent, body, until)
                response = client.send(request, stream=True)
                try:
                    where = response.headers.get("location") if response.has_redirect_location else None
                    if where is None:
                        return self._result(response, target, until)
                finally:
                    response.close()
                before, target = target, target.join(where)
                if (before.scheme, before.host, before.port) != (target.scheme, target.host, target.port):
                    sent = {name: value for name, value in sent.items() if name.lower() not in _SECRET}
                if response.status_code in (301, 302, 303) and method not in ("GET", "HEAD"):
                    method, body = "GET", ""
        raise Refused(f"there were more than {_REDIRECTS} redirects, the last one to {target}")

    def _pinned(
        self,
        client: httpx.Client,
        url: httpx.URL,
        method: str,
        headers: dict[str, str],
        body: str,
        until: float,
    ) -> httpx.Request:
        """The request to the address that was checked, under the name that was asked for."""
        if url.scheme not in ("http", "https") or not url.host:
            raise Refused(f"{url} is no http:// or https:// address")
        if url.userinfo:
            raise Refused("an address with a user or a password in it is not asked")
        address = self._address(url)
        left = until - time.monotonic()
        if left <= 0:
            raise Refused(f"there was no reply within {self._settings.timeout_s:g} s")
        kept = {
            name: value for name, value in headers.items() if name.lower() not in ("host", "content-length")
        }
        host = url.netloc.decode("ascii")
        return client.build_request(
            method,
            url.copy_with(host=address),
            headers={"accept-encoding": "identity", **kept, "host": host},
            content=body.encode() if body else None,
            extensions={
                "sni_hostname": url.raw_host.decode("ascii"),
                "timeout": dict.fromkeys(("connect", "read", "write", "pool"), left),
            },
        )

    def _address(self, url: httpx.URL) -> str:
        """The first address of the host; each of them must be allowed."""
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            found = socket.getaddrinfo(url.raw_host.decode("ascii"), port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise Refused(f"{url.host} cannot be found: {error}") from None
        addresses = [str(info[4][0]) for info in found]
        for address in addresses:
            if not self._settings.allow_private and not is_public(address):
                raise Refused(
                    f"{url.host} is {address}, which is no public address (tools.http.allow_private would allow it)"
                )
        return addresses[0]

    def _result(self, response: httpx.Response, url: httpx.URL, until: float) -> ToolResult:
        data = bytearray()
        whole = True
        for piece in response.iter_raw():
            data += piece
            if len(data) > self._settings.max_bytes or time.monotonic() > until:
                whole = False
                break
        del data[self._settings.max_bytes :]
        kind = response.headers.get("content-type", "")
        told = [f"{response.status_code} {response.reason_phrase}", f"url: {url}", f"content-type: {kind}"]
        told += [
            f"{name}: {response.headers[name]}"
            for name in ("location", "retry-after")
            if name in response.headers
        ]
        if not kind or any(word in kind for word in _TEXT):
            try:
                text = data.decode(response.charset_encoding or "utf-8", "replace")
            except (LookupError, UnicodeError):  # a charset that does not exist
                text = data.decode("utf-8", "replace")
        else:
            text = f"({len(data):,} bytes that are no text)"
        if not whole:
            limits = f"{self._settings.max_bytes:,} bytes, {self._settings.timeout_s:g} s"
            text += f"\n… the rest was not read (limits: {limits})"
        return ToolResult(text="\n".join([*told, "", text]), ok=response.status_code < 400)


def is_public(address: str) -> bool:
    """Whether it is an address of the open network, whatever it is wrapped in."""
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        for inside in (ip.ipv4_mapped, ip.sixtofour, ip.teredo[1] if ip.teredo else None):
            if inside is not None:
                return is_public(str(inside))
        if ip in _TUNNEL:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip.is_site_local:
            return False
    if any(ip in net for net in _SPECIAL if net.version == ip.version):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved
