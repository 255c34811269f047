"""What `fusionctl doctor` says of the default model's provider, and that it keeps the key to itself."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from fusionctl.cli import run
from fusionctl.doctor.provider import Question, judge
from fusiond.config import BUILT_IN_PROVIDERS
from tests.fusionctl.findings import Found, look, of

KEY = "sk-not-for-your-eyes"


class Api(ThreadingHTTPServer):
    """Answers each request with `status` and `body`; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.status = 200
        self.body = '{"data": [{"id": "large"}, {"id": "small-2026-01-31"}]}'
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Answer(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers.items())))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("FUSION_", "OPENAI_", "ANTHROPIC_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def asked(home: Path, capsys: pytest.CaptureFixture[str], model: str, provider: str) -> Found:
    (home / "config.toml").write_text(f'model = "{model}"\n[providers.lab]\n{provider}\n')
    findings = look(home, capsys)
    assert KEY not in json.dumps(findings)
    return of(findings, "provider")


def test_the_key_goes_to_the_provider_and_nowhere_else(
    home: Path, api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)
    found = asked(home, capsys, "lab/large", f'base_url = "{api.url}"\napi_key_env = "LAB_KEY"')
    assert (found["ok"], found["detail"]) == (True, f"lab ({api.url}) is there and takes the key")
    ((path, headers),) = api.asked
    assert (path, headers["authorization"]) == ("/v1/models", f"Bearer {KEY}")


def test_anthropics_api_is_asked_in_its_own_way(
    home: Path, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "key").write_text(KEY)
    base = api.url.removesuffix("/v1")
    settings = f'kind = "anthropic"\nbase_url = "{base}"\napi_key_file = "key"'
    assert asked(home, capsys, "lab/small", settings)["ok"]
    ((path, headers),) = api.asked
    assert path.partition("?")[0] == "/v1/models"
    assert headers["x-api-key"] == KEY
    assert "authorization" not in headers


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_is_told_with_its_place(
    home: Path, api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)
    api.status, api.body = status, f'{{"error": "Incorrect API key provided: {KEY}"}}'
    found = asked(home, capsys, "lab/large", f'base_url = "{api.url}"\napi_key_env = "LAB_KEY"')
    assert (found["ok"], found["detail"]) == (False, f"lab ({api.url}) refuses the key ({status})")
    assert found["advice"].startswith("set LAB_KEY to the right one")


def test_a_key_that_is_missing_is_no_wrong_key(
    home: Path, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.status = 401
    found = asked(home, capsys, "lab/large", f'base_url = "{api.url}"')
    assert "wants a key, and there is none" in found["detail"]
    assert "providers.lab" in found["advice"]


@pytest.mark.parametrize(
    ("status", "body", "ok", "words"),
    [
        (200, '{"data": []}', True, "is there"),
        (404, "", True, "does not list its models"),
        (429, "", True, "is there"),
        (503, "", False, "answers 503"),
        (302, "", False, "answers 302"),
        (200, "<html>Welcome to the Grand Hotel</html>", False, "no list of models"),
        (200, '{"data": 7}', False, "no list of models"),
    ],
)
def test_what_an_answer_means(
    home: Path,
    api: Api,
    capsys: pytest.CaptureFixture[str],
    status: int,
    body: str,
    ok: bool,
    words: str,
) -> None:
    api.status, api.body = status, body
    found = asked(home, capsys, "lab/large", f'base_url = "{api.url}"')
    assert (found["ok"], words in found["detail"]) == (ok, True), found


def test_a_model_that_is_not_listed_is_worth_a_word_and_names_the_nearest(
    home: Path, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    found = asked(home, capsys, "lab/lareg", f'base_url = "{api.url}"')
    assert (found["ok"], found["advice"]) == (True, "did you mean lab/large?")


@pytest.mark.parametrize(("model", "ok"), [("gpt-4o", True), ("gpt-4o-2024-08-06", True), ("gpt-4p", False)])
def test_what_the_maker_does_not_list_does_not_exist(model: str, ok: bool) -> None:
    own = BUILT_IN_PROVIDERS["openai"]
    reply = httpx.Response(200, json={"data": [{"id": "gpt-4o-2024-08-06"}, {"id": "whisper-1"}]})
    assert judge(reply, Question("openai", model, own, own.base_url, KEY)).ok == ok


def test_a_provider_that_is_not_there_is_told_without_the_secrets_of_its_url(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = asked(home, capsys, "lab/large", f'base_url = "http://me:{KEY}@127.0.0.1:9/v1"')
    assert not found["ok"]
    assert found["detail"].startswith("lab (http://***@127.0.0.1:9/v1) cannot be reached: ")


def test_the_environment_of_this_client_counts(
    home: Path, api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", api.url)
    monkeypatch.setenv("FUSION_MODEL", "openai/large")
    assert run(["--home", str(home), "doctor"]) == 0
    out = capsys.readouterr().out
    assert f"openai ({api.url}) is there and takes the key" in out
    assert KEY not in out
