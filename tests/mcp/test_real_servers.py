"""Servers that others wrote: from npm and from the Python package index."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mcp.servers import NO_MODEL, asking, call, is_ready
from tests.tree import Tree, eventually, running

SCRIPTS = Path(sys.executable).parent
NPM = ["@modelcontextprotocol/server-everything", "@modelcontextprotocol/server-filesystem"]


def table(name: str, command: Path | str, *args: str) -> str:
    return f"[mcp.servers.{name}]\ncommand = {json.dumps(str(command))}\nargs = {json.dumps(args)}\n"


# --- from the Python package index ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    repository = tmp_path_factory.mktemp("a repository")
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    (repository / "a.txt").write_text("hello\n")
    subprocess.run([*git, "add", "a.txt"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "The first of all commits"], check=True)
    config = (
        NO_MODEL
        + table("time", SCRIPTS / "mcp-server-time", "--local-timezone", "UTC")
        + table("git", SCRIPTS / "mcp-server-git", "--repository", str(repository))
    )
    with running(config) as tree:
        (tree.home / "repository").symlink_to(repository)
        eventually(lambda: is_ready(tree, "time") and is_ready(tree, "git"), within=30)
        yield tree


def test_mcp_server_time_converts_a_time(python: Tree) -> None:
    outcome = call(
        python, "time", "convert_time", source_timezone="UTC", time="12:00", target_timezone="Asia/Tokyo"
    )
    assert outcome.kind == "ok"
    assert "21:00" in outcome.text


def test_mcp_server_time_says_which_zone_it_does_not_know(python: Tree) -> None:
    outcome = call(python, "time", "get_current_time", timezone="Nowhere")
    assert (outcome.kind, "Nowhere" in outcome.text) == ("error", True)


def test_mcp_server_git_reads_the_log(python: Tree) -> None:
    outcome = call(python, "git", "git_log", repo_path=str((python.home / "repository").resolve()))
    assert "The first of all commits" in outcome.text


# --- from npm ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    modules = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(modules), *NPM]
    installed = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    if installed.returncode:
        pytest.skip(f"npm could not install the servers: {installed.stderr[-200:]}")
    scripts = modules / "node_modules" / ".bin"
    files = tmp_path_factory.mktemp("some files")
    (files / "a.txt").write_text("the content of a file\n")
    config = (
        NO_MODEL
        + table("everything", scripts / "mcp-server-everything")
        + table("files", scripts / "mcp-server-filesystem", str(files))
    )
    with running(config) as tree:
        (tree.home / "files").symlink_to(files)
        eventually(lambda: is_ready(tree, "everything") and is_ready(tree, "files"), within=30)
        yield tree


@pytest.mark.timeout(180)
def test_server_everything_adds_and_draws(node: Tree) -> None:
    tools = [info.name for info in asking(node, lambda client: client.mcp_tools("everything"))]
    assert "mcp:everything/echo" in tools
    assert call(node, "everything", "echo", message="hi").text == "Echo: hi"
    assert "5" in call(node, "everything", "get-sum", a=2, b=3).text
    picture = call(node, "everything", "get-tiny-image")
    assert [piece.type for piece in picture.content] == ["image"]


def test_server_everything_shows_its_resources_and_prompts(node: Tree) -> None:
    shown = asking(node, lambda client: client.mcp_server("everything"))
    assert shown.resources
    assert "simple-prompt" in [prompt.name for prompt in shown.prompts]
    read = asking(node, lambda client: client.mcp_resource("everything", shown.resources[0].uri))
    assert read.ok


def test_server_filesystem_reads_what_it_may_and_nothing_else(node: Tree) -> None:
    inside = str((node.home / "files").resolve() / "a.txt")
    assert "the content of a file" in call(node, "files", "read_text_file", path=inside).text
    assert call(node, "files", "read_text_file", path="/etc/passwd").kind == "error"
