"""What every peer's supervisor keeps alive: a program that imports, connects and reports. Argument: an endpoint.

The imports are what Fusion's own actors need at the least; so the comparison is of supervisors, not of programs.
"""

import asyncio  # noqa: F401 — the imports are the point
import os
import sys

import msgspec
import zmq

socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
socket.connect(sys.argv[1])
socket.send(msgspec.msgpack.encode(os.getpid()))
socket.recv()  # for ever
