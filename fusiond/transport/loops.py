"""An event loop that reads ZeroMQ's descriptors without a detour.

asyncio makes of each ready descriptor a key, a mask, a handle and a context before the callback runs. For a process
that wakes for one message that is a good part of the message's price; here the selector itself calls back, while it
selects. Everything else is asyncio's own.
"""

from __future__ import annotations

import asyncio
import math
import select
import selectors
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

_READ, _WRITE = select.EPOLLIN, select.EPOLLOUT


class _Selector(selectors.BaseSelector):
    """epoll; `direct` maps descriptors to what is called as soon as they are readable."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._keys: dict[Any, selectors.SelectorKey] = {}
        self._direct: dict[int, Callable[[], None]] = {}

    def call_directly(self, fd: int, callback: Callable[[], None]) -> None:
        self._epoll.register(fd, _READ)
        self._direct[fd] = callback

    def forget(self, fd: int) -> None:
        if self._direct.pop(fd, None) is not None:
            with suppress(OSError):
                self._epoll.unregister(fd)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if fd in self._keys:
            raise KeyError(f"{fileobj!r} is registered already")
        self._epoll.register(fd, _mask(events))
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = self._keys.pop(fd)
        with suppress(OSError):  # closed meanwhile
            self._epoll.unregister(fd)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        wait = -1 if timeout is None else max(0.0, math.ceil(timeout * 1000) / 1000)
        ready = []
        with suppress(InterruptedError):
            for fd, event in self._epoll.poll(wait):
                if callback := self._direct.get(fd):
                    callback()
                elif key := self._keys.get(fd):
                    events = selectors.EVENT_WRITE if event & ~_READ else 0
                    events |= selectors.EVENT_READ if event & ~_WRITE else 0
                    ready.append((key, events & key.events))
        return ready

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def close(self) -> None:
        self._epoll.close()
        self._keys.clear()
        self._direct.clear()


def _mask(events: int) -> int:
    return (_READ if events & selectors.EVENT_READ else 0) | (_WRITE if events & selectors.EVENT_WRITE else 0)


class DirectLoop(asyncio.SelectorEventLoop):
    """asyncio's loop, with `on_readable` besides `add_reader`."""

    def __init__(self) -> None:
        self._direct = _Selector()
        super().__init__(self._direct)

    def on_readable(self, fd: int, callback: Callable[[], None]) -> None:
        """Calls back whenever `fd` is readable; the callback must not raise."""
        self._direct.call_directly(fd, callback)

    def off_readable(self, fd: int) -> None:
        self._direct.forget(fd)
