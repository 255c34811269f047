"""Server-sent events, as far as LLM APIs use them (WHATWG HTML, section 9.2.6).

Works on bytes: a line never ends inside a UTF-8 character, so a stream may be cut anywhere, and whoever decodes the
data decodes whole events only.
"""

from __future__ import annotations

from typing import NamedTuple

from fusiond.errors import BadReply

LONGEST_EVENT = 8 << 20
"""Bytes. A server that sends more without ending the event is not speaking this protocol."""


class Event(NamedTuple):
    """One event: its name (b"" if it has none) and its data lines, joined by newlines."""

    name: bytes
    data: bytes


class Parser:
    """Takes bytes as they arrive, gives events as they are complete. Comments and keep-alives give nothing.

    An event still open when the stream ends is void, as the standard has it.
    """

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._name = b""
        self._after_cr = False
        self._at_start = True

    def feed(self, received: bytes) -> list[Event]:
        """The events completed by `received`. Raises BadReply on one that never ends."""
        received = self._with_plain_line_ends(received)
        if b"\n" not in received:
            self._line += received
            self._limit(len(self._line))
            return []
        lines = received.split(b"\n")
        if self._line:
            lines[0] = bytes(self._line) + lines[0]
        self._line = bytearray(lines.pop())
        if self._at_start:
            self._at_start = False
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
        events = []
        for line in lines:
            if line:
                self._field(line)
            elif self._data:
                events.append(Event(self._name, b"\n".join(self._data)))
                self._data, self._name, self._size = [], b"", 0
            else:
                self._name = b""
        return events

    def _with_plain_line_ends(self, received: bytes) -> bytes:
        """CR and CRLF as LF; a CRLF may have been cut in two."""
        if self._after_cr and received:
            received = received.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in received:
            self._after_cr = received.endswith(b"\r")
            received = received.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return received

    def _field(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)
            self._limit(self._size)
        elif field == b"event":
            self._name = value.removeprefix(b" ")

    @staticmethod
    def _limit(size: int) -> None:
        if size > LONGEST_EVENT:
            raise BadReply(f"the provider's stream holds an event of more than {LONGEST_EVENT >> 20} MB")
