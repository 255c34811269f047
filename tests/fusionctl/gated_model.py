"""A model whose words wait for the test: an OpenAI-compatible endpoint with a gate in its stream."""

from __future__ import annotations

import json
import select
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class GatedModel:
    """Answers `You said: <the last message>`, or what `answers` holds next, a word at a time.

    While `gate` is closed (cleared) a stream stops after its second word, or after as many as `close_gate` was told;
    `waiting`: one does. `asked`: the bodies of the requests, `keys`: their Authorization. `left`: a client went away
    while its stream waited. `pace`: seconds between two words. A message "refuse me" is answered by status 401.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.left = threading.Event()
        self.waiting = threading.Event()
        self.pace = 0.0
        self._stop_after = 2
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answers: list[str] = []
        model = self

        class Endpoint(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                model._serve(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def configuration(self) -> str:
        """`config.toml` with this model as the default."""
        return f'model = "test/echo"\n[providers.test]\nkind = "openai"\nbase_url = "{self.base_url}"\n'

    def close_gate(self, after: int) -> None:
        """Streams stop after that many words until `gate` is set."""
        self._stop_after = after
        self.waiting.clear()
        self.gate.clear()

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["content-length"])))
        self.asked.append(body)
        self.keys.append(request.headers["authorization"])
        last = body["messages"][-1]["content"]
        refused = last == "refuse me"
        request.send_response(401 if refused else 200)
        request.send_header("content-type", "text/event-stream")
        request.end_headers()
        if not refused:
            self._stream(request, self.answers.pop(0) if self.answers else f"You said: {last}")

    def _stream(self, request: BaseHTTPRequestHandler, text: str) -> None:
        with suppress(OSError):  # the client has gone away while we wrote
            for number, word in enumerate(text.split(" ")):
                if number == self._stop_after and not self._opened(request):
                    self.left.set()
                    return
                time.sleep(self.pace)
                self._send(request, {"delta": {"content": word if number == 0 else f" {word}"}})
            end = {"delta": {}, "finish_reason": "stop"}
            self._send(request, end, {"prompt_tokens": 7, "completion_tokens": 5})
            request.wfile.write(b"data: [DONE]\n\n")

    def _opened(self, request: BaseHTTPRequestHandler) -> bool:
        """Waits for the gate; returns False if the client goes away first."""
        self.waiting.set()
        while not self.gate.wait(0.02):
            if select.select([request.connection], [], [], 0)[0]:
                return False
        return True

    def _send(
        self, request: BaseHTTPRequestHandler, choice: dict[str, Any], usage: dict[str, int] | None = None
    ) -> None:
        choices = [{"index": 0, "finish_reason": None, **choice}]
        event = {
            "id": "1",
            "object": "chat.completion.chunk",
            "model": "echo",
            "choices": choices,
            "usage": usage,
        }
        request.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
