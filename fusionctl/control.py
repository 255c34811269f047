"""Asks a supervisor over its control socket, blocking: without an event loop a command starts in half the
time.

`Client` does the same for programs, on their loop; the commands of one question and one answer come here.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import zmq

from fusiond.errors import Denied, ProtocolMismatch
from fusiond.paths import GROUP_ADVICE
from fusiond.protocol.envelope import (
    Ack,
    AnyHeader,
    Failure,
    Refusal,
    Reply,
    Request,
    encode,
    pack,
    to_client,
    unpack,
)

_SLICE = (
    100  # milliseconds; time is counted in slices, so that our own suspension is not taken for their silence
)
_ONCE = ("kill",)  # what is not asked again where the connection was lost


def ask(
    socket: Path, verb: str, body: bytes = b"", *, timeout: float | None = None, end: int = -1
) -> bytes | None:
    """The reply's body. None if none came within `timeout` seconds, or before `end` (a pidfd) became readable.

    Raises the `FusionError` that the supervisor answers, `ProtocolMismatch`, or `Denied` where the socket is not this
    user's to open (libzmq would try in silence).
    """
    if os.access(socket, os.F_OK) and not os.access(socket, os.R_OK | os.W_OK):
        raise Denied(f"{socket} is not open to you", advice=GROUP_ADVICE)
    id = os.urandom(16)
    message = pack(encode(Request(id=id, service="supervisor", verb=verb)), body)
    context = zmq.Context()
    try:
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 100)
        dealer.setsockopt(zmq.RECONNECT_IVL, 5)
        monitor = dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        dealer.connect(f"ipc://{socket}")
        dealer.send(message)

        again = None if verb in _ONCE else message
        return _await(dealer, monitor, again, id, timeout, end)
    finally:
        context.destroy(linger=100)


def _await(
    dealer: zmq.Socket[bytes],
    monitor: zmq.Socket[bytes],
    again: bytes | None,
    id: bytes,
    timeout: float | None,
    end: int,
) -> bytes | None:
    poller = zmq.Poller()
    poller.register(dealer, zmq.POLLIN)
    poller.register(monitor, zmq.POLLIN)
    if end >= 0:
        poller.register(end, zmq.POLLIN)
    slices = None if timeout is None else max(1, round(timeout * 1000 / _SLICE))
    while slices is None or slices > 0:
        ready = dict(poller.poll(_SLICE))
        if dealer in ready:
            answer = _answer(dealer.recv(), id)
            if answer is not None:
                dealer.send(pack(encode(Ack([id])), b""))
                return answer
        elif monitor in ready and end not in ready:  # it begins anew, or has died and that is not yet known
            monitor.recv_multipart()
            if again is None:
                slices = 1
            else:
                dealer.send(again)
        elif end in ready:  # it ended; what it said last may still be on its way through libzmq
            poller.unregister(end)
            end, slices = -1, 1
        elif slices is not None:
            slices -= 1
    return None


def _answer(message: bytes, id: bytes) -> bytes | None:
    """The body of the reply to `id`, None for anything else."""
    try:
        frame, body = unpack(message)
        header: AnyHeader = to_client.decode(frame)
    except msgspec.DecodeError as error:
        raise ProtocolMismatch(
            f"the daemon's answer is not understood: {error}", advice="restart it: fusionctl stop"
        ) from None
    if isinstance(header, Refusal):
        raise Failure(id, header.code, header.message).error()
    if isinstance(header, Failure) and header.id == id:
        raise header.error()
    return body if isinstance(header, Reply) and header.id == id else None
