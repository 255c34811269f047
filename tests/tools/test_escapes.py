"""Attempts to get out of the tools' bounds, one by one, as a model that means harm would make them.

Each is made by real processes in a running daemon, the shell with bubblewrap where it is installed; what holds
without it, by Landlock or by itself, is tried again with a PATH on which there is none.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from fusiond.protocol.tools import ToolOutcome
from fusiond.tools import sandbox
from tests.mcp.servers import NO_MODEL, asking
from tests.tree import Tree, eventually, running

SECRET = "the-secret-of-the-house"
CONFIG = (
    NO_MODEL
    + """\
[mcp.servers.fusion]
enabled = false
[tools]
timeout_s = 10
memory_mb = 256
[tools.approval]
shell = "allow"
write_file = "allow"
[tools.shell]
timeout_s = 5
"""
)
FILES = {"secret.txt": SECRET}


def call(tree: Tree, name: str, **arguments: object) -> ToolOutcome:
    return asking(tree, lambda client: client.call_tool(name, arguments))


def furnished(tree: Tree) -> Tree:
    workspace = tree.home / "state" / "workspace"
    workspace.mkdir(parents=True, exist_ok=True)
    (workspace / "inside.txt").write_text("inside")
    (workspace / "link").symlink_to("../../secret.txt")
    (workspace / "folder").symlink_to("../..")
    os.mkfifo(workspace / "pipe")
    (workspace / "null").symlink_to("/dev/zero")
    return tree


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    with running(CONFIG, FILES) as tree:
        yield furnished(tree)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree whose PATH has everything but bubblewrap."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("sh", "sleep", "cat", "ls", "env", "kill", "ps", "id"):
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    before = os.environ["PATH"]
    os.environ["PATH"] = str(folder)
    try:
        with running(CONFIG, FILES) as tree:
            yield furnished(tree)
    finally:
        os.environ["PATH"] = before


def harmed(tree: Tree) -> bool:
    """Whether anything outside the workspace is another than it was."""
    return (tree.home / "secret.txt").read_text() != SECRET or (tree.home / "new.txt").exists()


# --- files: paths, links, devices --------------------------------------------------------------------------------

READS = [
    "../../secret.txt",
    "a/../../../secret.txt",
    "./.././../secret.txt",
    "{home}/secret.txt",
    "//{home}/secret.txt",
    "/etc/passwd",
    "link",
    "folder/secret.txt",
    "folder/../secret.txt",
    "null",
    "pipe",
    "/proc/self/environ",
    "/proc/self/root{home}/secret.txt",
    "/dev/mem",
    "inside.txt/../../../secret.txt",
    "inside.txt\0/../../secret.txt",
    "~/secret.txt",
    "file://{home}/secret.txt",
]


@pytest.mark.parametrize("path", READS)
def test_nothing_outside_the_workspace_is_read(tree: Tree, path: str) -> None:
    outcome = call(tree, "read_file", path=path.format(home=tree.home))
    assert not outcome.ok
    assert SECRET not in outcome.text


@pytest.mark.parametrize(
    "path",
    ["../../new.txt", "link", "folder/new.txt", "{home}/new.txt", "pipe", "null", "/tmp/new-by-fusion"],
)
def test_nothing_outside_the_workspace_is_written(tree: Tree, path: str) -> None:
    outcome = call(tree, "write_file", path=path.format(home=tree.home), content="harm")
    workspace = tree.home / "state" / "workspace"
    assert not harmed(tree)
    assert not Path("/tmp/new-by-fusion").exists()
    if outcome.ok:  # it has replaced the link itself, not what it points at
        assert (workspace / path).read_text() == "harm"
        assert not (workspace / path).is_symlink()


@pytest.mark.parametrize("path", ["..", "folder", "/", "{home}"])
def test_nothing_outside_the_workspace_is_listed(tree: Tree, path: str) -> None:
    outcome = call(tree, "list_files", path=path.format(home=tree.home))
    assert "secret.txt" not in outcome.text
    assert "usr" not in outcome.text


# --- the shell, isolated -----------------------------------------------------------------------------------------


@pytest.fixture(params=["bubblewrap", "landlock"])
def confined(request: pytest.FixtureRequest) -> Tree:
    if request.param == "landlock":
        if not sandbox.landlock_abi():
            pytest.skip("this kernel has no Landlock")
        bare: Tree = request.getfixturevalue("bare")
        return bare
    if sandbox.available() != "bubblewrap":
        pytest.skip("bubblewrap does not work here")
    tree: Tree = request.getfixturevalue("tree")
    return tree


isolated = pytest.mark.skipif(sandbox.available() != "bubblewrap", reason="bubblewrap does not work here")


@pytest.mark.parametrize(
    "command",
    [
        "cat {home}/secret.txt",
        "cat ../../secret.txt",
        "cat folder/secret.txt",
        "cat link",
        "cd / && cat .{home}/secret.txt",
        "cat /proc/1/root{home}/secret.txt",
        "cat /proc/*/root{home}/secret.txt",
        "find / -name secret.txt -exec cat {{}} +",
        "mount --bind {home} /mnt && cat /mnt/secret.txt",
        "ln -s {home}/secret.txt out && cat out",
    ],
)
def test_the_shell_reads_nothing_outside(confined: Tree, command: str) -> None:
    outcome = call(confined, "shell", command=command.format(home=f'"{confined.home}"'))
    assert SECRET not in outcome.text


@pytest.mark.parametrize(
    "command",
    [
        "echo harm > {home}/new.txt",
        "rm -rf {home}/secret.txt /usr/bin/env",
        "echo harm > /usr/bin/by-fusion",
        "touch /etc/by-fusion",
        "mkdir -p {home} && echo harm > {home}/new.txt",
        "umount -a; echo harm > {home}/new.txt",
        "chroot / touch {home}/new.txt",
        "nsenter -t 1 -a touch {home}/new.txt",
    ],
)
def test_the_shell_writes_nothing_outside(confined: Tree, command: str) -> None:
    call(confined, "shell", command=command.format(home=f'"{confined.home}"'))
    assert not harmed(confined)
    assert Path("/usr/bin/env").exists()
    assert not Path("/usr/bin/by-fusion").exists()
    assert not Path("/etc/by-fusion").exists()


def test_the_shell_reaches_no_server(confined: Tree) -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        connect = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
        assert not call(confined, "shell", command=f'python3 -c "{connect}" && echo reached').text.endswith(
            "reached\n"
        )


@isolated
def test_the_shell_reaches_no_socket_of_the_daemon(tree: Tree) -> None:
    assert call(tree, "shell", command="cat /proc/net/route | wc -l").text.strip() in ("0", "1")
    for name in ("router.sock", "supervisor.sock"):
        reach = f"s.connect('{tree.home}/run/{name}')"
        outcome = call(
            tree,
            "shell",
            command=f'python3 -c "import socket; s = socket.socket(1); {reach}" && echo reached',
        )
        assert "reached" not in outcome.text


@isolated
def test_what_services_keep_in_etc_is_not_seen(tree: Tree) -> None:
    outcome = call(
        tree,
        "shell",
        command="cat /etc/shadow /etc/ssh/ssh_host* /etc/ssl/private/*; ls /root /home /run /var",
    )
    assert "root:" not in outcome.text
    assert outcome.text.count("No such file") >= 5


@isolated
def test_other_processes_are_neither_seen_nor_signalled(tree: Tree) -> None:
    pids = {process.pid for process in tree.processes()}
    seen = call(tree, "shell", command="ls /proc").text.split()
    assert len([name for name in seen if name.isdigit()]) < 10
    call(tree, "shell", command="kill -9 -1; kill -9 1; kill -9 $PPID; killall -9 python3")
    supervisor = tree.supervisor
    assert supervisor in pids
    assert call(tree, "shell", command="echo alive").text == "alive\n"
    assert tree.actor("tools")["restarts"] == 0


# --- with bubblewrap and without ---------------------------------------------------------------------------------


@pytest.fixture(params=["tree", "bare"])
def either(request: pytest.FixtureRequest) -> Tree:
    found: Tree = request.getfixturevalue(request.param)
    return found


def test_signals_to_the_parent_cost_their_own_call(either: Tree) -> None:
    for command in ("kill -9 $PPID", "kill -STOP $PPID", "kill -TERM 0", "kill -9 0"):
        call(either, "shell", command=command)
        assert call(either, "shell", command="echo alive").text == "alive\n"
    assert either.actor("tools")["restarts"] == 0


BOMB = "b() { if [ $1 -gt 0 ]; then b $(($1 - 1)) & b $(($1 - 1)) & fi; sleep 60; }; b 8"
"""Of 511 processes; one without end would be felt by whatever else runs here."""


def test_a_fork_bomb_ends_with_its_call(either: Tree) -> None:
    before = len(psutil.pids())
    call(either, "shell", command=BOMB, timeout_s=1)
    eventually(lambda: len(psutil.pids()) < before + 50)
    assert call(either, "shell", command="echo alive").text == "alive\n"


def test_a_command_that_eats_memory_is_ended(either: Tree) -> None:
    outcome = call(either, "shell", command="x=a; while :; do x=$x$x; done")
    assert not outcome.ok
    assert call(either, "shell", command="echo alive").text == "alive\n"


def test_no_key_is_in_the_environment_of_a_command_or_of_its_parents(either: Tree) -> None:
    outcome = call(either, "shell", command="cat /proc/self/environ /proc/$PPID/environ; env")
    assert "API_KEY" not in outcome.text
    assert "HOME" in outcome.text


def test_output_without_end_is_cut_and_ended(either: Tree) -> None:
    outcome = call(either, "shell", command="while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaa; done", timeout_s=1)
    assert len(outcome.text) < 60_000
    assert "bytes left out" in outcome.text


def test_without_bubblewrap_it_is_said_plainly(bare: Tree) -> None:
    shown = bare.ok("tools", "show", "shell")
    if sandbox.landlock_abi():
        assert "Landlock" in shown
    else:
        assert "no isolation by the operating system beyond processes" in shown
        assert "install bubblewrap" in bare.run("doctor").stdout


def test_without_isolation_none_is_run_where_it_is_required(bare: Tree) -> None:
    if sandbox.landlock_abi():
        pytest.skip("this kernel has Landlock")
    bare.configure(CONFIG.replace("timeout_s = 10", 'timeout_s = 10\nsandbox = "required"'))
    try:
        bare.ok("reload")
        outcome = call(bare, "shell", command="touch ran")
        assert (outcome.kind, "install bubblewrap" in outcome.text) == ("error", True)
        assert not (bare.home / "state" / "workspace" / "ran").exists()
    finally:
        bare.configure(CONFIG)
        bare.ok("reload")


# --- shell syntax against the allow-list -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listed() -> Iterator[Tree]:
    with running(CONFIG + 'allow = ["ls", "git status"]\n', FILES) as tree:
        yield furnished(tree)


@pytest.mark.parametrize(
    "command",
    [
        "ls; touch harm",
        "ls && touch harm",
        "ls || touch harm",
        "ls & touch harm",
        "ls | sh",
        "ls $(touch harm)",
        "ls `touch harm`",
        "ls <(touch harm)",
        "ls > harm",
        "ls 2>harm",
        "ls\ntouch harm",
        "ls\r\ntouch harm",
        "l\\\ns; touch harm",
        "X=1 touch harm",
        "lsof; touch harm",
        "./ls",
        "/tmp/../bin/touch harm",
        "git push",
        "git  -c core.pager='touch harm' status",
        "'ls; touch harm'",
        "ls ${IFS}; touch harm",
        "eval touch harm",
        "{ ls; touch harm; }",
        "(touch harm)",
        "ls # \n touch harm",
    ],
)
def test_what_the_list_does_not_allow_is_never_run(listed: Tree, command: str) -> None:
    outcome = call(listed, "shell", command=command)
    assert outcome.kind == "invalid"
    assert not (listed.home / "state" / "workspace" / "harm").exists()


# --- the network by http_request ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A server on loopback that remembers who asked; nobody should."""
    heard: list[bytes] = []
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(1000))

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://127.1:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f000001:{port}/",
        "http://0.0.0.0:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://me:pass@127.0.0.1:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://[fd00::1]/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/",
        "unix:///run/x.sock",
    ],
)
def test_no_private_address_is_asked(tree: Tree, listener: tuple[int, list[bytes]], url: str) -> None:
    port, heard = listener
    outcome = call(tree, "http_request", url=url.format(port=port))
    assert not outcome.ok
    assert not heard
    assert "root:" not in outcome.text
