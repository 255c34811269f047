"""Requests over HTTP, to a real server on loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from fusiond.config.schema import HttpSettings
from fusiond.protocol.tools import ToolOutcome
from fusiond.tools.builtin import http
from fusiond.tools.builtin.http import HttpRequest, is_public
from fusiond.tools.calling import call

OPEN = HttpSettings(allow_private=True, timeout_s=2, max_bytes=2000)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(size)
        assert isinstance(self.server, ThreadingHTTPServer)
        elsewhere = f"http://127.0.0.2:{self.server.server_port}/echo"
        match self.path:
            case "/moved":
                self._say(302, b"", location="/echo")
            case "/elsewhere":
                self._say(302, b"", location=elsewhere)
            case "/round":
                self._say(302, b"", location="/round")
            case "/huge":
                self._say(200, b"x" * 100_000)
            case "/binary":
                self._say(200, b"\0\1\2", kind="image/png")
            case "/never":
                time.sleep(3)
                self.close_connection = True
            case "/odd":
                self._say(200, b"gr\xc3\xbcn", kind="text/html; charset=utf8mb4")
            case "/missing":
                self._say(404, b"not here")
            case "/drip":
                self.send_response(200)
                self.send_header("content-type", "text/plain")
                self.end_headers()
                with suppress(OSError):  # nobody listens any more
                    for _ in range(50):
                        self.wfile.write(b"x")
                        time.sleep(0.1)
            case _:
                headers = "\n".join(f"{name.lower()}: {value}" for name, value in self.headers.items())
                self._say(200, f"{self.command} {self.path}\n{headers}\n\n{body.decode()}".encode())

    do_GET = do_POST = do_PUT = do_HEAD = _answer  # noqa: N815

    def _say(self, status: int, body: bytes, *, kind: str = "text/plain", location: str = "") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if location:
            self.send_header("location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    server = ThreadingHTTPServer(("0.0.0.0", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def ask(settings: HttpSettings, **arguments: Any) -> ToolOutcome:
    return call(HttpRequest(settings), msgspec.json.encode(arguments))


def test_a_page_is_fetched_with_its_status_and_kind(base: str) -> None:
    outcome = ask(OPEN, url=f"{base}/a?b=c")
    assert outcome.ok
    assert outcome.text.startswith(f"200 OK\nurl: {base}/a?b=c\ncontent-type: text/plain\n\nGET /a?b=c\n")


def test_method_headers_and_body_are_sent_and_no_foreign_host(base: str) -> None:
    headers = {"X-Own": "yes", "Host": "forged.example", "Content-Length": "3"}
    outcome = ask(OPEN, url=f"{base}/a", method="POST", headers=headers, body="hello")
    assert "POST /a" in outcome.text
    assert "x-own: yes" in outcome.text
    assert "forged" not in outcome.text
    assert outcome.text.endswith("\n\nhello")


def test_a_status_that_is_an_error_is_one_with_its_text(base: str) -> None:
    outcome = ask(OPEN, url=f"{base}/missing")
    assert (outcome.kind, "404 Not Found" in outcome.text, "not here" in outcome.text) == (
        "error",
        True,
        True,
    )


def test_redirects_are_followed_so_far(base: str) -> None:
    assert "GET /echo" in ask(OPEN, url=f"{base}/moved", method="POST", body="x").text
    assert "more than 5 redirects" in ask(OPEN, url=f"{base}/round").text


def test_a_key_does_not_follow_to_another_host(base: str) -> None:
    headers = {"Authorization": "Bearer hidden", "Cookie": "hidden", "X-Own": "yes"}
    outcome = ask(OPEN, url=f"{base}/elsewhere", headers=headers)
    assert "x-own: yes" in outcome.text
    assert "hidden" not in outcome.text


def test_a_redirect_to_a_private_address_is_refused(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "is_public", lambda address: address == "127.0.0.1")
    outcome = ask(HttpSettings(timeout_s=2), url=f"{base}/elsewhere")
    assert (outcome.kind, "127.0.0.2, which is no public address" in outcome.text) == ("error", True)


def test_of_a_huge_reply_the_beginning_is_read(base: str) -> None:
    outcome = ask(OPEN, url=f"{base}/huge")
    assert outcome.text.count("x") < 2100
    assert "the rest was not read" in outcome.text


def test_what_is_no_text_is_named_only(base: str) -> None:
    assert "(3 bytes that are no text)" in ask(OPEN, url=f"{base}/binary").text


def test_a_charset_that_does_not_exist_is_taken_for_utf_8(base: str) -> None:
    assert ask(OPEN, url=f"{base}/odd").text.endswith("grün")


@pytest.mark.parametrize("path", ["/never", "/drip"])
def test_a_server_that_takes_too_long_is_given_up(base: str, path: str) -> None:
    began = time.monotonic()
    ask(HttpSettings(allow_private=True, timeout_s=0.5), url=f"{base}{path}")
    assert time.monotonic() - began < 2


def test_a_host_that_does_not_exist_is_said_so() -> None:
    assert "no-such-host.invalid cannot be found" in ask(OPEN, url="http://no-such-host.invalid/").text


def test_a_port_where_nobody_listens_is_said_so() -> None:
    outcome = ask(OPEN, url="http://127.0.0.1:9/")
    assert (outcome.kind, "the request failed" in outcome.text) == ("error", True)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:7f00:1::", False),
        ("fec0::1", False),
        ("192.0.0.8", False),
        ("192.88.99.1", False),
        ("64:ff9b:1::808:808", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public
