"""Tools of a user's own that do what no tool should, and a way to call them in a running tree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import msgspec
import psutil

from fusiond.protocol.tools import CallTool, ToolDetail, ToolInfo, ToolName, ToolOutcome
from fusiond.transport.requester import Requester
from tests.tree import Tree, eventually

T = TypeVar("T")

CONFIG = """
[supervisor]
heartbeat_interval_ms = 50
[mcp.servers.fusion]
enabled = false
[tools]
modules = ["toolbox"]
timeout_s = 2
memory_mb = 128
workers = 4
max_output_bytes = 1000
"""

MODULE = '''
import ctypes, os, subprocess, sys, threading, time
from fusiond.tools import tool

@tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b

@tool
def nap(seconds: float) -> str:
    """Sleeps a while."""
    time.sleep(seconds)
    return "awake"

@tool
def hang() -> str:
    """Never comes back, and has a child that does not either."""
    subprocess.run(["sleep", "1000"])
    return ""

@tool
def hog() -> str:
    """Takes more and more memory."""
    held = []
    while True:
        held.append(bytearray(1_000_000))

@tool
def shared_hog() -> str:
    """Takes more and more memory of a kind that no limit of the kernel's counts."""
    import mmap
    held = mmap.mmap(-1, 2 << 30)
    for at in range(0, 2 << 30, 4096):
        held[at] = 1
    time.sleep(10)
    return "all of it"

@tool
def segfault() -> str:
    """Reads at address 0."""
    return ctypes.string_at(0).decode()

@tool
def leave(status: int) -> str:
    """Ends its process."""
    os._exit(status)

@tool
def stop_self(number: int) -> str:
    """Sends its process a signal."""
    os.kill(os.getpid(), number)
    time.sleep(10)
    return "still here"

@tool
def stop_group(number: int) -> str:
    """Sends its process group a signal."""
    os.kill(0, number)
    time.sleep(10)
    return "still here"

@tool
def daemonise() -> str:
    """Leaves a process behind that has left its session."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)
    return "left one"

@tool
def fork_back() -> str:
    """Comes back twice."""
    os.fork()
    return "once"

@tool
def start_thread() -> str:
    """Leaves a thread behind."""
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    return "started"

@tool
def long(size: int) -> str:
    """Says much."""
    return "begin" + "x" * size + "end"

@tool
def chatter(lines: int) -> str:
    """Prints much."""
    for number in range(lines):
        print(f"line {number} " + "y" * 100)
    return "said"

@tool
def scribble() -> str:
    """Writes into everything that is open."""
    for fd in range(3, 64):
        try:
            os.write(fd, b"\\x00\\x00\\x00\\x05hello")
        except OSError:
            pass
    time.sleep(10)
    return "written"

@tool
def look_around() -> dict:
    """What it sees."""
    return {
        "mark": os.environ["FUSION_TREE"],
        "keys": [name for name in os.environ if "KEY" in name],
        "folder": os.getcwd(),
        "processes": sum(name.isdigit() for name in os.listdir("/proc")),
    }

@tool
def ask_me(number: int) -> int:
    """Is not to be called unasked."""
    return number

@tool
def forbidden() -> str:
    """Is not to be called."""
    return "called"

@tool
def wander() -> str:
    """Leaves the folder that tools work in."""
    os.chdir("/")
    return os.getcwd()

@tool
def settle() -> str:
    """Changes what the next one would inherit."""
    os.environ["LEFT_BY"] = "settle"
    return "done"
'''


def furnish(tree: Tree, config: str = CONFIG, module: str = MODULE) -> None:
    """Puts the tools and a configuration that names them into the home."""
    (tree.home / "toolbox.py").write_text(module)
    tree.configure(config)


class Box:
    """The tools of a running tree."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    async def call(
        self, name: str, approved: bool = False, within: float = 30.0, **arguments: Any
    ) -> ToolOutcome:
        ask = CallTool(name=name, arguments=msgspec.json.encode(arguments), approved=approved)
        body = await self._requester.request(
            "tools", "call", msgspec.msgpack.encode(ask), timeout=within, repeatable=False
        )
        return msgspec.msgpack.decode(body, type=ToolOutcome)

    async def show(self, name: str) -> ToolDetail:
        body = await self._requester.request(
            "tools", "show", msgspec.msgpack.encode(ToolName(name)), timeout=30
        )
        return msgspec.msgpack.decode(body, type=ToolDetail)

    async def list(self) -> list[ToolInfo]:
        body = await self._requester.request("tools", "list", timeout=30)
        return msgspec.msgpack.decode(body, type=list[ToolInfo])


@asynccontextmanager
async def opened(tree: Tree) -> AsyncIterator[Box]:
    requester = Requester(f"ipc://{tree.home}/run/router.sock")
    try:
        yield Box(requester)
    finally:
        await requester.close()


def calling(tree: Tree, work: Callable[[Box], Coroutine[Any, Any, T]]) -> T:
    """Does `work` with the tools of the tree."""

    async def do() -> T:
        async with opened(tree) as box:
            return await work(box)

    return asyncio.run(do())


def call(tree: Tree, name: str, approved: bool = False, **arguments: Any) -> ToolOutcome:
    """One call."""
    return calling(tree, lambda box: box.call(name, approved, **arguments))


def titled(tree: Tree, title: str) -> list[psutil.Process]:
    """The processes of the tree whose command line begins so."""
    found = []
    for process in tree.processes():
        with suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(title):
                found.append(process)
    return found


def template_of(tree: Tree) -> psutil.Process:
    """The process that makes workers; one that it has just made has its title until it takes its own."""
    found: list[psutil.Process] = []

    def alone() -> bool:
        found[:] = titled(tree, "fusiond: tools.template")
        return len(found) == 1

    eventually(alone)
    return found[0]
