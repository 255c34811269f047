from __future__ import annotations

import os
import ssl
import subprocess
import sys
from pathlib import Path

_ASK = """
import os
from fusiond.providers.stack import aiohttp
from aiohttp import connector
contexts = (connector._SSL_CONTEXT_VERIFIED, connector._SSL_CONTEXT_UNVERIFIED)
print(*(len(context.get_ca_certs()) for context in contexts))
print(*map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR")))
"""


def test_the_http_stack_is_imported_without_certificates_and_the_environment_is_as_it_was(
    tmp_path: Path,
) -> None:
    authorities = tmp_path / "authorities.pem"
    authorities.write_text("".join(map(ssl.DER_cert_to_PEM_cert, _trusted())))
    env = {name: value for name, value in os.environ.items() if name != "SSL_CERT_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", _ASK],
        env=env | {"SSL_CERT_FILE": str(authorities)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["0", "0", str(authorities), "None"]


def _trusted() -> list[bytes]:
    import certifi

    context = ssl.create_default_context(cafile=certifi.where())
    return context.get_ca_certs(binary_form=True)[:3]
