"""aiohttp, imported without the machine's certificates.

It reads them as it is imported, twice, for TLS contexts that nobody here uses: `client` hands each connection its own.
That is 70 ms of every start and 2 MB, where `SSL_CERT_FILE` or the machine names a file. The contexts that come of this
trust nobody: a connection made with one by mistake would be refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_NAMED_BY = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@contextmanager
def _no_certificates() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _NAMED_BY}
    os.environ.update(dict.fromkeys(_NAMED_BY, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


with _no_certificates():
    import aiohttp
    from httpx_aiohttp import AiohttpTransport

__all__ = ["AiohttpTransport", "aiohttp"]
