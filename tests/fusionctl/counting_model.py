"""A model that counts: an OpenAI-compatible endpoint that answers whole, and remembers how often it was asked what."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class CountingModel:
    """Answers `You said: <the last message>`; closed (`gate` cleared) it answers when it is opened.

    `asked`: how often each last message came, `order` and `times`: in which order and when; `bodies`: the last ten, as
    they were written. `status`: by a word in the message, the status it is refused with; "" stands for every message.
    `retry_after`: what a 429 says. `at_once`: the most requests that were here together.
    """

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self.asked: Counter[str] = Counter()
        self.bodies: list[str] = []
        self.order: list[str] = []
        self.times: list[float] = []
        self.status: dict[str, int] = {}
        self.retry_after = "0.1"
        self.at_once = 0
        self._here = 0
        self._lock = threading.Lock()
        self.port = 0
        self._open()

    def _open(self) -> None:
        model = self

        class Endpoint(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                with suppress(OSError):
                    model._serve(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 512
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: object) -> None:
                """A client that was killed is no error here."""

        self._server = Server(("127.0.0.1", self.port), Endpoint)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def configuration(self) -> str:
        """`config.toml` with this model as the default."""
        return f'model = "test/echo"\n[providers.test]\nkind = "openai"\nbase_url = "{self.base_url}"\n'

    def close_gate(self) -> None:
        self.waiting.clear()
        self.gate.clear()

    def go_away(self) -> None:
        """Nobody listens at its address any more."""
        self._server.shutdown()
        self._server.server_close()

    def come_back(self) -> None:
        self._open()

    def close(self) -> None:
        self.gate.set()
        self.go_away()

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        data = request.rfile.read(int(request.headers["content-length"]))
        body = json.loads(data)
        prompt = body["messages"][-1]["content"]
        with self._lock:
            self.bodies = [*self.bodies[-9:], data.decode()]
            self.asked[prompt] += 1
            self.order.append(prompt)
            self.times.append(time.monotonic())
            self._here += 1
            self.at_once = max(self.at_once, self._here)
        try:
            self.waiting.set()
            self.gate.wait()
            threading.Event().wait(self.delay)
            self._answer(request, prompt, self.reply(body))
        finally:
            with self._lock:
                self._here -= 1

    def reply(self, body: dict[str, Any]) -> str:
        """What it says to a request."""
        return f"You said: {body['messages'][-1]['content']}"

    def _answer(self, request: BaseHTTPRequestHandler, prompt: str, said: str) -> None:
        status = next((code for word, code in self.status.items() if word in prompt), 200)
        message = {"role": "assistant", "content": said}
        answer = {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 5},
        }
        reply = answer if status == 200 else {"error": {"message": f"status {status}, as the test wants it"}}
        data = json.dumps(reply).encode()
        request.send_response(status)
        if status == 429:
            request.send_header("retry-after", self.retry_after)
        request.send_header("content-type", "application/json")
        request.send_header("x-request-id", f"req-{abs(hash(prompt))}")
        request.send_header("content-length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)
