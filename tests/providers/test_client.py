"""The environment's proxies and certificates are obeyed; passwords go nowhere they should not."""

from __future__ import annotations

import base64
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from aiohttp import web

from fusiond.errors import ConfigError, ProviderDown
from fusiond.providers import client
from fusiond.providers.settings import Retries
from tests.llm_server import OPENAI, ScriptedServer
from tests.providers.conftest import Asking

ONCE = Retries(attempts=1)


def address(server: ScriptedServer) -> str:
    return server.url.removesuffix("/v1")


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_the_proxy_of_the_environment_is_asked(
    asking: Asking, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    async with ScriptedServer() as server:
        monkeypatch.setenv(variable, address(server))
        assert (await asking("http://api.invalid/v1")()).text == "You said: hello"
    assert server.headers[0]["Host"] == "api.invalid"


async def test_an_https_api_is_reached_through_the_proxys_tunnel(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ScriptedServer() as server:
        monkeypatch.setenv("HTTPS_PROXY", address(server))
        with pytest.raises(ProviderDown, match="HTTPS_PROXY"):  # the scripted server refuses CONNECT
            await asking("https://api.invalid/v1", retries=ONCE)()


async def test_no_proxy_is_obeyed(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedServer() as server:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
        assert (await asking(server.url)()).text == "You said: hello"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "http://", "ftp://127.0.0.1"])
async def test_a_proxy_that_cannot_be_used_is_named(
    asking: Asking, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(ConfigError, match="HTTP_PROXY"):
        await asking("http://api.invalid/v1")()


async def test_a_password_in_the_base_url_is_sent_and_never_said(asking: Asking) -> None:
    async with ScriptedServer("well,no-such-path") as server:
        ask = asking(server.url.replace("http://", "http://me:p%40ss@"))
        await ask()
        with pytest.raises(ConfigError) as raised:
            await ask()
        assert "p%40ss" not in str(raised.value) + repr(ask.provider)
    scheme, _, sent = server.headers[0]["Authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(sent) == b"me:p@ss"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate of 127.0.0.1 with its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    file = tmp_path / "self.pem"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(file), "-out", str(tmp_path / "c.pem")]
    subprocess.run(made, check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + (tmp_path / "c.pem").read_bytes())
    return file


async def test_a_certificate_is_trusted_if_ssl_cert_file_says_so_and_only_then(
    asking: Asking, monkeypatch: pytest.MonkeyPatch, certificate: Path
) -> None:
    async def complete(request: web.Request) -> web.Response:
        return web.Response(body=OPENAI.whole(await request.json()), content_type="application/json")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    application = web.Application()
    application.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        client._certificates.cache_clear()
        with pytest.raises(ConfigError, match=r"not trusted — .*SSL_CERT_FILE"):
            await asking(url)()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        client._certificates.cache_clear()
        assert (await asking(url)(stream=False)).text == "You said: hello"
    finally:
        client._certificates.cache_clear()
        await runner.cleanup()


async def test_certificates_that_are_none_are_named(
    asking: Asking, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    client._certificates.cache_clear()
    try:
        with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
            await asking("https://127.0.0.1:9/v1")()
    finally:
        client._certificates.cache_clear()
