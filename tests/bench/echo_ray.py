"""A call of a Ray actor on the same machine."""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections import deque
from typing import Any

from tests.bench.echo import BODY, WINDOW

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray: Any = importlib.import_module("ray")  # not everywhere installed


class Echoing:
    def ping(self, body: bytes) -> bytes:
        return body


class RayEcho:
    def __init__(self) -> None:
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        self._actor: Any = ray.remote(Echoing).remote()
        assert self._ask_and_wait() == BODY

    def _ask_and_wait(self) -> Any:
        return ray.get(self._actor.ping.remote(BODY))

    def one_at_a_time(self, count: int) -> list[float]:
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            self._ask_and_wait()
            taken.append(time.perf_counter() - began)
        return taken

    def pipelined(self, count: int) -> float:
        began = time.perf_counter()
        asked: deque[Any] = deque()
        for _ in range(count):
            if len(asked) == WINDOW:
                ray.get(asked.popleft())
            asked.append(self._actor.ping.remote(BODY))
        while asked:
            ray.get(asked.popleft())
        return time.perf_counter() - began

    def close(self) -> None:
        ray.shutdown()
