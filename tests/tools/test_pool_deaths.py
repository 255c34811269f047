"""Whatever of the tools is killed: nothing of it survives, and the next call works."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from fusiond.errors import FusionError, OutcomeUnknown
from tests.tools.toolbox import Box, call, calling, furnish, opened, template_of, titled
from tests.tree import Tree, eventually

_WITHOUT_NAMESPACES = ["unshare", "--user", "--map-current-user", "sh", "-c"]
_REFUSE = (
    'echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all "$@"'
)


@pytest.fixture
def tools(tree: Tree) -> Tree:
    furnish(tree)
    tree.start()
    assert works(tree)
    return tree


def works(tree: Tree) -> bool:
    return call(tree, "add", a=1, b=2).text == "3"


@contextmanager
def hanging(tree: Tree) -> Iterator[list[object]]:
    """A call of `hang` is under way; afterwards the list has what became of it."""
    ends: list[object] = []

    def ask() -> None:
        try:
            ends.append(call(tree, "hang"))
        except FusionError as error:
            ends.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: titled(tree, "fusiond: tools.worker hang") and titled(tree, "sleep"))
    yield ends
    asking.join()


def everything(tree: Tree) -> list[psutil.Process]:
    """The processes behind the tools actor, and what their tools have started."""
    return [*titled(tree, "fusiond: tools."), *titled(tree, "sleep")]


def test_the_template_is_killed(tools: Tree) -> None:
    template = template_of(tools)
    template.kill()
    for _ in range(5):
        assert call(tools, "leave", status=1).kind == "crashed"  # more than there are workers ahead
    assert works(tools)
    assert template_of(tools).pid != template.pid


def test_the_template_is_killed_while_a_tool_works(tools: Tree) -> None:
    template = template_of(tools)

    async def nap_through(box: Box) -> str:
        napping = asyncio.create_task(box.call("nap", seconds=1.5))
        await asyncio.to_thread(eventually, lambda: titled(tools, "fusiond: tools.worker nap"))
        template.kill()
        return (await napping).text

    assert calling(tools, nap_through) == "awake"


@pytest.mark.parametrize("which", ["keeper", "worker hang"])
def test_a_working_worker_is_killed(tools: Tree, which: str) -> None:
    with hanging(tools) as ends:
        (worker,) = titled(tools, "fusiond: tools.worker hang")
        victim = worker if which == "worker hang" else worker.parent()
        assert victim is not None
        victim.kill()
        eventually(lambda: ends)
    assert "SIGKILL" in str(ends[0])
    assert not titled(tools, "sleep")
    assert works(tools)


def test_every_idle_worker_is_killed_and_it_costs_no_call(tools: Tree) -> None:
    for _ in range(3):
        for each in titled(tools, "fusiond: tools.worker") + titled(tools, "fusiond: tools.keeper"):
            with suppress(psutil.NoSuchProcess):  # it has ended with its keeper
                each.kill()
        assert works(tools)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV])
def test_the_actor_dies_and_takes_all_with_it(tools: Tree, number: signal.Signals) -> None:
    with hanging(tools) as ends:
        behind = everything(tools)
        os.kill(tools.actor("tools")["pid"], number)
        eventually(lambda: not any(each.is_running() for each in behind))
        eventually(lambda: ends)
    assert isinstance(ends[0], OutcomeUnknown)
    assert works(tools)


def test_the_supervisor_is_killed_and_takes_all_with_it(tools: Tree) -> None:
    with hanging(tools):
        behind = everything(tools)
        assert tools.supervisor is not None
        os.kill(tools.supervisor, signal.SIGKILL)
        eventually(lambda: not any(each.is_running() for each in behind))
        eventually(lambda: not tools.processes())
        tools.start()
    assert works(tools)


@pytest.mark.skipif(
    subprocess.run([*_WITHOUT_NAMESPACES, _REFUSE, "sh", "true"], capture_output=True).returncode != 0,
    reason="takes a user namespace to refuse namespaces in",
)
@pytest.mark.parametrize("whom", ["nobody", "tools", "supervisor"])
def test_where_the_kernel_refuses_namespaces_nothing_survives_either(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, whom: str
) -> None:
    furnish(tree)
    refusing = [*_WITHOUT_NAMESPACES, _REFUSE, "sh", *tree.command]
    monkeypatch.setattr(Tree, "command", refusing)
    tree.start()
    monkeypatch.undo()
    assert "refuses" in calling(tree, lambda box: box.show("add")).isolation
    assert call(tree, "daemonise").kind == "ok"
    eventually(lambda: not titled(tree, "fusiond: tools.worker daemonise"))
    assert call(tree, "segfault").kind == "crashed"
    with hanging(tree) as ends:
        behind = [*titled(tree, "fusiond: tools.worker hang"), *titled(tree, "sleep")]
        if whom == "tools":
            os.kill(tree.actor("tools")["pid"], signal.SIGKILL)
        elif whom == "supervisor":
            assert tree.supervisor is not None
            os.kill(tree.supervisor, signal.SIGKILL)
        eventually(lambda: not any(each.is_running() for each in behind))
        tree.start()
        eventually(lambda: ends)
    assert works(tree)


def test_all_end_with_the_daemon(tools: Tree) -> None:
    behind = everything(tools)
    assert behind
    tools.ok("stop")
    assert not any(each.is_running() for each in behind)


def test_nothing_runs_before_a_tool_is_needed(tree: Tree) -> None:
    tree.start()
    assert not titled(tree, "fusiond: tools.")
    assert "add" not in {info.name for info in calling(tree, Box.list)}
    assert titled(tree, "fusiond: tools.template")


async def test_a_stopped_template_keeps_nobody_waiting_for_long(tools: Tree) -> None:
    template = template_of(tools)
    template.suspend()
    async with opened(tools) as box:
        for _ in range(3):
            assert (await box.call("leave", status=1)).kind == "crashed"
        assert (await box.call("add", a=1, b=2)).text == "3"


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("os._exit(7)", "status 7"),
        ("os.kill(os.getpid(), 9)", "SIGKILL"),
        ("held = [bytearray(10_000_000) for _ in range(1000)]", "MemoryError"),
        ("sys.exit(3)", "SystemExit"),
        ("raise KeyboardInterrupt", "SIGINT"),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_module_that_goes_wrong_while_it_is_imported_is_listed_and_hurts_no_other(
    tree: Tree, deed: str, words: str
) -> None:
    furnish(tree)
    tree.configure((tree.home / "config.toml").read_text().replace('["toolbox"]', '["bad", "toolbox"]'))
    (tree.home / "bad.py").write_text(f"import os, sys\n{deed}\n")
    tree.start()
    listed = {info.name: info for info in calling(tree, Box.list)}
    assert words in listed["bad"].problem
    assert works(tree)
