"""Running a command of the shell in the workspace."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from fusiond.config.schema import ToolsSettings
from fusiond.tools import sandbox
from fusiond.tools.api import Tool, ToolMetadata, ToolResult
from fusiond.tools.commandline import refusal
from fusiond.tools.schema import ToolParameter

_CHUNK = 64 * 1024


class Shell(Tool):
    """With an empty allow-list any command may be run (each needs a person's approval unless configured otherwise);
    with one only plain lines of commands that begin as an entry of it does.
    """

    def __init__(self, workspace: str, settings: ToolsSettings) -> None:
        self._workspace = Path(workspace)
        self._settings = settings

    def metadata(self) -> ToolMetadata:
        allow = self._settings.shell.allow
        only = f" Allowed are only commands that begin with: {', '.join(allow)}." if allow else ""
        return ToolMetadata(
            name="shell",
            description=f"Runs a shell command in the workspace and gives its output.{only}",
            parameters=[
                ToolParameter(name="command", schema={"type": "string"}, description="one line for sh"),
                ToolParameter(
                    name="timeout_s",
                    schema={"type": "number", "exclusiveMinimum": 0},
                    description=f"it is ended after so long, at most {self._settings.shell.timeout_s:g}",
                    required=False,
                ),
            ],
            timeout_s=self._settings.shell.timeout_s
            + 5,  # this tool keeps the time itself, and tells what came
        )

    def validate(self, arguments: dict[str, Any]) -> None:
        super().validate(arguments)
        command = arguments["command"]
        if not command.strip() or "\0" in command:
            raise ValueError("the command is empty" if "\0" not in command else "a command cannot hold NUL")
        if self._settings.shell.allow and (words := refusal(command, self._settings.shell.allow)):
            raise ValueError(words)

    def execute(self, arguments: dict[str, Any]) -> ToolResult:
        if words := sandbox.refusal(self._settings):
            return ToolResult(ok=False, text=words)
        limit = min(float(arguments.get("timeout_s", 1e9)), self._settings.shell.timeout_s)
        self._workspace.mkdir(mode=0o700, parents=True, exist_ok=True)
        wrapped = sandbox.sandboxed(["/bin/sh", "-c", arguments["command"]], self._workspace, self._settings)
        process = subprocess.Popen(
            wrapped.argv,
            preexec_fn=wrapped.prepare,  # a worker has one thread
            cwd=self._workspace,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        output = _Output(self._settings.max_output_bytes)
        try:
            in_time = output.follow(process, time.monotonic() + limit)
        finally:
            _end(process)
        return _result(process.returncode, output, None if in_time else limit)

    def _environment(self) -> dict[str, str]:
        """Nothing of ours: no key, no address."""
        own_tmp = self._settings.sandbox != "off" and sandbox.available() == "bubblewrap"
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self._workspace),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "TMPDIR": "/tmp" if own_tmp else str(self._workspace),  # noqa: S108 - its own
        }


class _Output:
    """The beginning and the end of what a command prints, however much it is."""

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._size = 0

    def follow(self, process: subprocess.Popen[bytes], until: float) -> bool:
        """Reads until the command has ended; False if it had not by `until`."""
        assert process.stdout is not None
        reader = process.stdout.fileno()
        os.set_blocking(reader, False)
        end = os.pidfd_open(process.pid)
        try:
            poll = select.poll()
            poll.register(reader, select.POLLIN)
            poll.register(end, select.POLLIN)
            while (left := until - time.monotonic()) > 0:
                ready = [fd for fd, _ in poll.poll(left * 1000)]
                if end in ready:
                    self._drain(reader)
                    return True
                if reader in ready and not self._take(reader):
                    poll.unregister(reader)  # it closed its output and goes on
            return False
        finally:
            os.close(end)

    def _drain(self, reader: int) -> None:
        """What was written before the end; what goes on writing after it is not waited for."""
        for _ in range(64):
            with suppress(OSError):
                if not self._take(reader):
                    return

    def _take(self, reader: int) -> bool:
        try:
            piece = os.read(reader, _CHUNK)
        except BlockingIOError:
            return False
        self._size += len(piece)
        room = self._half - len(self._head)
        self._head += piece[:room] if room > 0 else b""
        self._tail = (self._tail + (piece[room:] if room > 0 else piece))[-self._half :]
        return bool(piece)

    @property
    def text(self) -> str:
        cut = self._size - len(self._head) - len(self._tail)
        middle = b"\n\xe2\x80\xa6 %d bytes left out \xe2\x80\xa6\n" % cut if cut else b""
        return (bytes(self._head) + middle + bytes(self._tail)).decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills whatever is left of the command: its process, and what it started, which has become ours."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()  # before anybody else does: the status is for us
    for _ in range(20):
        if not (left := psutil.Process().children(recursive=True)):
            break
        for child in left:
            with suppress(psutil.Error):
                child.kill()
        psutil.wait_procs(left, timeout=0.5)
    assert process.stdout is not None
    process.stdout.close()


def _result(status: int, output: _Output, timed_out: float | None) -> ToolResult:
    text = output.text
    if timed_out is not None:
        how = f"(ended: it was not done after {timed_out:g} s)"
    elif status < 0:
        how = f"(ended by signal {-status})"
    elif status:
        how = f"(exit status {status})"
    else:
        return ToolResult(text=text or "(no output, exit status 0)")
    return ToolResult(ok=False, text=f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{how}")
