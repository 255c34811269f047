"""The floor: libzmq alone. Three processes (client, broker, echo), blocking sockets, ipc, and a msgspec struct encoded
and decoded at both ends. The broker is a loop in Python as ours is, or libzmq's own `proxy`, in C."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import time

import msgspec
import zmq

from tests.bench.echo import BODY, WINDOW


class Message(msgspec.Struct, array_like=True, gc=False):
    id: bytes
    verb: str
    body: bytes


def _broker(clients: str, workers: str, in_c: bool) -> None:
    context = zmq.Context()
    front, back = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    front.bind(clients)
    back.bind(workers)
    if in_c:
        zmq.proxy(front, back)
    poller = zmq.Poller()
    poller.register(front, zmq.POLLIN)
    poller.register(back, zmq.POLLIN)
    while True:
        for ready, _ in poller.poll():
            (back if ready is front else front).send_multipart(ready.recv_multipart())


def _worker(workers: str) -> None:
    socket = zmq.Context().socket(zmq.DEALER)
    socket.connect(workers)
    decode, encode = msgspec.msgpack.Decoder(Message).decode, msgspec.msgpack.Encoder().encode
    while True:
        asker, frame = socket.recv_multipart()
        asked = decode(frame)
        socket.send_multipart([asker, encode(Message(asked.id, "reply", asked.body))])


class FloorEcho:
    def __init__(self, *, in_c: bool) -> None:
        self._folder = tempfile.mkdtemp(prefix="fusion-bench-")
        clients, workers = f"ipc://{self._folder}/clients", f"ipc://{self._folder}/workers"
        spawn = multiprocessing.get_context("spawn")
        self._others = [
            spawn.Process(target=_broker, args=(clients, workers, in_c), daemon=True),
            spawn.Process(target=_worker, args=(workers,), daemon=True),
        ]
        for process in self._others:
            process.start()
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 10)
        self._socket.connect(clients)
        self._decode = msgspec.msgpack.Decoder(Message).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self.one_at_a_time(1)

    def _ask(self) -> None:
        self._socket.send(self._encode(Message(os.urandom(16), "ping", BODY)))

    def _take(self) -> None:
        self._decode(self._socket.recv())

    def one_at_a_time(self, count: int) -> list[float]:
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            self._ask()
            self._take()
            taken.append(time.perf_counter() - began)
        return taken

    def pipelined(self, count: int) -> float:
        began = time.perf_counter()
        for _ in range(min(WINDOW, count)):
            self._ask()
        for _ in range(count - WINDOW):
            self._take()
            self._ask()
        for _ in range(min(WINDOW, count)):
            self._take()
        return time.perf_counter() - began

    def close(self) -> None:
        for process in self._others:
            process.kill()
            process.join()
        self._socket.close(0)
        shutil.rmtree(self._folder, ignore_errors=True)
