"""Keys stay where they are needed: whatever goes wrong, nothing that is written, shown or inherited has one."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.llm_server import ScriptedServer, serving
from tests.tree import Tree, eventually

FROM_ENVIRONMENT = "sk-marker-of-the-environment-31f0"
FROM_FILE = "sk-marker-of-the-file-86c2"
MARKERS = (FROM_ENVIRONMENT.encode(), FROM_FILE.encode())

REPEATS_THE_KEY = "401"
BREAKS = "cut"
HANGS_UP = "hang-up"


class Haunted:
    """A daemon to which all has happened that makes programs tell what they know. `said`: by command."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.said: dict[str, bytes] = {}
        self.keys: set[str] = set()

    def run(self, *args: str, **environment: str) -> int:
        done = self.tree.run(*args, **environment)
        self.said[" ".join((*environment, *args))] = (done.stdout + done.stderr).encode()
        return done.returncode

    def processes(self) -> list[psutil.Process]:
        supervisor = psutil.Process(self.tree.supervisor)
        return [supervisor, *supervisor.children(recursive=True)]


@pytest.fixture(scope="module")
def haunted() -> Iterator[Haunted]:
    folder = Path(tempfile.mkdtemp(prefix="fu"))
    home = folder / "a home"
    home.mkdir(mode=0o700)
    (home / "key").write_text(f"{FROM_FILE}\n")
    with serving(REPEATS_THE_KEY) as server, serving(f"{BREAKS},{HANGS_UP}") as broken:
        tree = Tree(
            home,
            {
                "OPENAI_API_KEY": FROM_ENVIRONMENT,
                "OPENAI_BASE_URL": server.url,
                "FUSION_LOG_LEVEL": "DEBUG",
            },
        )
        tree.configure(configuration(server, broken))
        haunted = Haunted(tree)
        try:
            happen(haunted)
            haunted.keys = {headers["Authorization"] for each in (server, broken) for headers in each.headers}
            yield haunted
        finally:
            left = tree.remove()
            shutil.rmtree(folder)
    assert not left, f"left behind: {left}"


def configuration(server: ScriptedServer, broken: ScriptedServer) -> str:
    return f"""
        model = "lab/echo"
        [providers.lab]
        base_url = "{server.url}"
        api_key_file = "key"
        [providers.broken]
        base_url = "{broken.url}"
        api_key_file = "key"
        [supervisor]
        heartbeat_interval_ms = 100
        heartbeat_timeout_ms = 500
        """


def happen(haunted: Haunted) -> None:
    """Chats that are refused and that fail, crashes, hangs, reloads, and every command that shows something."""
    tree = haunted.tree
    haunted.run("start")
    for model in ("openai/gpt-4o", "lab/echo"):
        assert haunted.run("chat", "hello", "-m", model) == 77
        assert haunted.run("chat", "hello", "-m", model, "--json", "--no-stream") == 77
        haunted.run("chat", "hello", "-m", model, FUSION_DEBUG="1")
    assert haunted.run("chat", "hello", "-m", "broken/echo") != 0
    assert haunted.run("kill", "llm.0", "--signal", "SEGV") == 0
    assert haunted.run("chat", "hello again", "-m", "openai/gpt-4o") == 77  # the new process has the keys too
    assert haunted.run("kill", "llm.0", "--fault", "block") == 0
    assert haunted.run("kill", "llm.0", "--fault", "hold-lock") == 0
    assert haunted.run("kill", "forkserver", "--signal", "SEGV") == 0
    assert haunted.run("chat", "hello") == 77
    reload_badly(haunted)
    for command in (
        "health",
        "health --json",
        "config show",
        "config show --json",
        "config check",
        "doctor",
        "doctor --json",
        "events",
        "logs",
        "sessions list --json",
        "models",
    ):
        haunted.run(*command.split())
    eventually(lambda: tree.actor("forkserver")["children"])


def reload_badly(haunted: Haunted) -> None:
    """With a key file that holds no key, and with a key in the wrong place; then as it was."""
    tree, key = haunted.tree, haunted.tree.home / "key"
    before = (tree.home / "config.toml").read_text()
    key.write_text(f"{FROM_FILE} {FROM_FILE}\n")
    assert haunted.run("reload") == 78
    tree.configure(f'{before}\n[providers.other]\nbase_url = "{FROM_FILE}"\napi_key = "{FROM_FILE}"\n')
    assert haunted.run("reload") == 78
    haunted.run("config", "check", "--json")
    haunted.run("doctor", "--json")
    haunted.run("reload", FUSION_DEBUG="1")
    tree.configure(before)
    key.write_text(f"{FROM_FILE}\n")
    assert haunted.run("reload") == 0


def leaks(found: dict[str, bytes]) -> list[str]:
    return [place for place, content in found.items() if any(marker in content for marker in MARKERS)]


def test_the_keys_were_used(haunted: Haunted) -> None:
    assert {f"Bearer {FROM_ENVIRONMENT}", f"Bearer {FROM_FILE}"} <= haunted.keys


def test_no_command_shows_a_key(haunted: Haunted) -> None:
    assert "refuse" in haunted.said["chat hello -m lab/echo"].decode()
    assert leaks(haunted.said) == []


def test_no_file_has_a_key(haunted: Haunted) -> None:
    files = [path for path in haunted.tree.home.rglob("*") if path.is_file() and path.name != "key"]
    written = {str(path): path.read_bytes() for path in files}
    assert any(b"most recent call first" in content for content in written.values()), "no stack was dumped"
    assert {"fusion.db", "events.jsonl", "llm.0.log", "fusiond.log"} <= {path.name for path in files}
    assert leaks(written) == []


def title(process: psutil.Process) -> str:
    return " ".join(process.cmdline()).strip()


def shown(processes: list[psutil.Process]) -> dict[str, bytes]:
    """What anybody, or at least root, sees of processes in /proc."""
    return {
        f"{title(process)} ({process.pid}): {what}": Path(f"/proc/{process.pid}/{what}").read_bytes()
        for process in processes
        for what in ("environ", "cmdline", "comm")
    }


def memory(process: psutil.Process) -> bytes:
    """All that a process has written to its memory, what it would hand on to programs it starts included."""
    maps = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
    ranges = (line.split()[0].split("-") for line in maps if line.split()[1].startswith("rw"))
    found = []
    with Path(f"/proc/{process.pid}/mem").open("rb") as file:
        for start, end in ranges:
            with suppress(OSError):  # a mapping that has gone meanwhile
                file.seek(int(start, 16))
                found.append(file.read(int(end, 16) - int(start, 16)))
    return b"".join(found)


root_only = pytest.mark.skipif(
    os.geteuid() != 0, reason="nobody else sees into a process that is not dumpable"
)


def memories(processes: list[psutil.Process]) -> dict[str, bytes]:
    """By title; a spare child may have been retired meanwhile."""
    found = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            found[title(process)] = memory(process)
    return found


@root_only
def test_no_process_has_a_key_in_its_environment_or_command_line(haunted: Haunted) -> None:
    seen = shown(haunted.processes())
    for name in ("supervisor", "forkserver", "blank", "router", "store", "llm.0", "agent.0"):
        assert any(place.startswith(f"fusiond: {name}") for place in seen), name
    assert any(content for place, content in seen.items() if place.endswith("environ"))
    assert leaks(seen) == []


@root_only
def test_only_the_supervisor_and_the_llm_actors_know_keys_at_all(haunted: Haunted) -> None:
    knowing = set(leaks(memories(haunted.processes())))
    assert knowing == {f"fusiond: supervisor {haunted.tree.home}", "fusiond: llm.0"}


@root_only
def test_a_key_that_the_configuration_sets_aside_is_not_handed_on_either(tree: Tree) -> None:
    (tree.home / "key").write_text(FROM_FILE)
    tree.configure('model = "openai/gpt-4o"\n[providers.openai]\napi_key_file = "key"\n')
    tree.environment["OPENAI_API_KEY"] = FROM_ENVIRONMENT
    tree.start()
    children = psutil.Process(tree.supervisor).children(recursive=True)
    remembered = {name: found.count(FROM_ENVIRONMENT.encode()) for name, found in memories(children).items()}
    assert remembered == dict.fromkeys(remembered, 0)


@root_only
def test_a_provider_that_joins_later_has_its_key_and_no_other_process_knows_it(tree: Tree) -> None:
    with serving("well") as server:
        tree.configure(f'model = "lab/echo"\n[providers.lab]\nbase_url = "{server.url}"\n')
        tree.environment["LAB_API_KEY"] = FROM_ENVIRONMENT
        tree.start()
        tree.configure(
            f'model = "lab/echo"\n[providers.lab]\nbase_url = "{server.url}"\napi_key_env = "LAB_API_KEY"\n'
        )
        tree.ok("reload")
        tree.ok("chat", "hello")
        assert server.headers[-1]["Authorization"] == f"Bearer {FROM_ENVIRONMENT}"
        children = psutil.Process(tree.supervisor).children(recursive=True)
        assert leaks(memories(children)) == ["fusiond: llm.0"]


def test_no_process_keeps_the_file_in_which_the_keys_were_handed_over(haunted: Haunted) -> None:
    for process in haunted.processes():
        opened = [str(fd.readlink()) for fd in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert not any("memfd:keys" in name or name.endswith("/key") for name in opened)


def test_no_process_writes_a_core(haunted: Haunted) -> None:
    for process in haunted.processes():
        assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    supervisor = haunted.tree.supervisor
    assert supervisor is not None
    os.kill(supervisor, signal.SIGSEGV)
    eventually(lambda: not haunted.tree.processes())
    assert not [path for path in (Path("/"), haunted.tree.home) if list(path.glob("core*"))]
    assert haunted.run("doctor", "--json") == 1
    assert leaks(haunted.said) == []
