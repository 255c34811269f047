from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from fusionctl import control
from fusiond.errors import Denied


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_socket_of_somebody_elses_is_said_to_be_closed_at_once() -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as theirs:
        path = Path(folder, "supervisor.sock")
        theirs.bind(str(path))
        path.chmod(0o600)
        path.parent.chmod(0o755)
        theirs.listen()
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setuid(65534)
                answer = control.ask(path, "health", timeout=5)
                os.write(writer, f"answered {answer!r}".encode())
            except Denied as error:
                os.write(writer, str(error).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as said:
            assert said.read() == (
                f"{path} is not open to you — join its group (fusion), or use a home of your own: --home DIR"
            )
        os.waitpid(pid, 0)
