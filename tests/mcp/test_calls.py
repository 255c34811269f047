"""What a server offers and answers, through its actor."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fusionctl.client import Client
from fusiond.errors import NotFound
from fusiond.protocol.tools import CallProgress, CallTool, ToolOutcome
from tests.mcp.servers import NO_MODEL, asking, call, is_ready, scripted
from tests.tree import Tree, eventually, running

APPROVAL = '[tools.approval]\n"mcp:well/forbidden" = "never"\n"mcp:well/ask*" = "ask"\n'
CONFIG = (
    NO_MODEL
    + scripted("well", env={"GIVEN": "yes", "SCRIPT_RECORD": "record.txt"}, timeout_s=1)
    + scripted("rubbish", "rubbish")
    + scripted("flood", "flood")
    + APPROVAL
)


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    with running(CONFIG) as tree:
        eventually(lambda: all(is_ready(tree, name) for name in ("well", "rubbish", "flood", "fusion")))
        yield tree


def test_all_pages_of_the_tools_are_listed_under_the_servers_name(tree: Tree) -> None:
    infos = {info.name: info for info in asking(tree, lambda client: client.mcp_tools("well"))}
    assert len(infos) >= 14
    assert infos["mcp:well/echo"].description == "It does echo."
    assert infos["mcp:well/echo"].source == "mcp:well"
    assert infos["mcp:well/echo"].parameters["required"] == ["text"]


def test_what_a_server_says_of_itself_moves_no_cursor(tree: Tree) -> None:
    infos = {info.name: info for info in asking(tree, lambda client: client.mcp_tools("well"))}
    assert infos["mcp:well/escape"].description == "[2Jcleared ]0;titleand turned"
    assert "cannot be used" in infos["mcp:well/?[31mred"].problem
    assert "cannot be used" in infos["mcp:well/ls with {}?allow? yes"].problem


def test_resources_and_prompts_are_shown_and_read(tree: Tree) -> None:
    shown = asking(tree, lambda client: client.mcp_server("well"))
    assert (shown.server, shown.instructions) == ("scripted 7", "Do as you are told.")
    assert [resource.uri for resource in shown.resources] == ["note://b", "note://{name}"]
    assert [(prompt.name, prompt.arguments) for prompt in shown.prompts] == [("greet", ["whom*"])]
    assert asking(tree, lambda client: client.mcp_resource("well", "note://b")).text == "inside"
    greeting = asking(tree, lambda client: client.mcp_prompt("well", "greet", {"whom": "Ada"}))
    assert greeting.text == "user: Greet Ada."


def test_a_call_is_answered(tree: Tree) -> None:
    outcome = call(tree, "well", "echo", text="hé")
    assert (outcome.kind, outcome.text) == ("ok", "hé")


def test_what_a_tool_says_of_its_failure_is_an_error(tree: Tree) -> None:
    outcome = call(tree, "well", "fail")
    assert (outcome.kind, outcome.text) == ("error", "the tank is empty")


def test_wrong_arguments_never_reach_the_server(tree: Tree) -> None:
    outcome = call(tree, "well", "echo", txt="a")
    assert outcome.kind == "invalid"
    assert "'text' is missing" in outcome.text
    assert "did you mean text?" in outcome.text


def test_an_unknown_tool_is_not_found_and_the_nearest_named(tree: Tree) -> None:
    with pytest.raises(NotFound, match="did you mean echo"):
        call(tree, "well", "ecko")


def test_an_unknown_server_is_not_found_and_the_nearest_named(tree: Tree) -> None:
    with pytest.raises(NotFound, match="did you mean well"):
        call(tree, "wel", "echo", text="a")


def test_content_that_is_no_text_is_kept(tree: Tree) -> None:
    outcome = call(tree, "well", "pictures")
    assert outcome.text.splitlines() == [
        "here:",
        "[image, image/png, 20 bytes]",
        "[audio, audio/wav, 20 bytes]",
        "[resource file:///a, a]",
        "inside",
    ]
    assert [piece.type for piece in outcome.content] == [
        "image",
        "audio",
        "resource_link",
        "resource",
        "json",
    ]
    assert outcome.content[0].data == "bm90IHJlYWxseSBhIHBpY3R1cmU="
    assert outcome.content[-1].data == '{"n":1}'


def test_of_a_long_text_the_middle_is_left_out(tree: Tree) -> None:
    outcome = call(tree, "well", "long", bytes=200_000)
    assert outcome.cut == 150_000
    assert "150,000 bytes left out" in outcome.text
    assert len(outcome.text) < 51_000


def test_what_may_never_be_called_is_denied(tree: Tree) -> None:
    outcome = call(tree, "well", "forbidden")
    assert (outcome.kind, "never" in outcome.text) == ("denied", True)


def test_what_a_person_must_agree_to_is_not_done_without(tree: Tree) -> None:
    async def ask(client: Client) -> list[ToolOutcome]:
        arguments = CallTool(name="ask_me", arguments=b"{}")
        asked = [arguments, msgspec.structs.replace(arguments, approved=True)]
        bodies = [await client.request("mcp.well", "call", msgspec.msgpack.encode(one)) for one in asked]
        return [msgspec.msgpack.decode(body, type=ToolOutcome) for body in bodies]

    first, second = asking(tree, ask)
    assert (first.kind, second.text) == ("approval", "did ask_me")


def test_progress_is_passed_on_and_gives_a_call_its_time_anew(tree: Tree) -> None:
    async def through_tools(client: Client) -> tuple[list[CallProgress], ToolOutcome]:
        body = msgspec.msgpack.encode(CallTool(name="mcp:well/slow", arguments=b'{"seconds": 1.5}'))
        told: list[CallProgress] = []
        async for piece, last in client.follow("tools", "call", body):
            if last:
                return told, msgspec.msgpack.decode(piece, type=ToolOutcome)
            told.append(msgspec.msgpack.decode(piece, type=CallProgress))
        raise AssertionError

    told, outcome = asking(tree, through_tools)
    assert outcome.text == "at last"
    assert told[0].message == "step 1"
    assert len(told) >= 5


def test_a_call_that_is_taken_back_is_cancelled_at_the_server(tree: Tree) -> None:
    record = tree.home / "record.txt"
    record.unlink(missing_ok=True)

    async def ask(client: Client) -> None:
        asked = asyncio.create_task(client.call_tool("mcp:well/slow", {"seconds": 30}))
        await asyncio.sleep(0.5)
        asked.cancel()
        await asyncio.wait({asked})

    asking(tree, ask)
    eventually(lambda: record.exists() and "cancelled" in record.read_text())


def test_the_environment_holds_what_is_given_and_no_secret_of_ours(tree: Tree) -> None:
    environment = json.loads(call(tree, "well", "environment").text)
    assert environment["GIVEN"] == "yes"
    assert environment["FUSION_TREE"] == str(tree.home / "run")
    assert not [
        name for name in environment if "KEY" in name or "TOKEN" in name or name.startswith("FUSION_HOME")
    ]


def test_new_tools_are_there_as_soon_as_the_server_says_so(tree: Tree) -> None:
    assert "mcp:well/late" not in [
        info.name for info in asking(tree, lambda client: client.mcp_tools("well"))
    ]
    call(tree, "well", "grow")
    assert eventually(lambda: call_or_none(tree, "late")) == "did late"


def call_or_none(tree: Tree, tool: str) -> str:
    try:
        return call(tree, "well", tool).text
    except NotFound:
        return ""


def test_rubbish_on_standard_output_is_logged_and_otherwise_ignored(tree: Tree) -> None:
    assert call(tree, "rubbish", "echo", text="a").text == "a"
    assert "Starting up" in log(tree, "rubbish")


def test_a_flood_on_standard_error_fills_no_log_and_stops_nothing(tree: Tree) -> None:
    for _ in range(5):
        assert call(tree, "flood", "echo", text="a").text == "a"
    assert "blah" in log(tree, "flood")
    assert len(log(tree, "flood")) < 1_000_000


def log(tree: Tree, server: str) -> str:
    return Path(tree.home, "state", "logs", f"mcp.{server}.log").read_text()


def test_every_server_and_its_tools_are_listed(tree: Tree) -> None:
    servers = {server.name: server for server in asking(tree, lambda client: client.mcp_servers())}
    assert {name: server.state for name, server in servers.items()} == dict.fromkeys(
        ("fusion", "well", "rubbish", "flood"), "ready"
    )
    names = [info.name for info in asking(tree, lambda client: client.tools())]
    assert {"mcp:fusion/time", "mcp:well/echo", "read_file", "shell"} <= set(names)


def test_our_own_server_tells_the_time_the_health_and_what_was_said(tree: Tree) -> None:
    assert call(tree, "fusion", "time", zone="Asia/Tokyo").text.endswith("+09:00")
    wrong = call(tree, "fusion", "time", zone="Nowhere/At all")
    assert (wrong.kind, "no time zone 'Nowhere/At all'" in wrong.text) == ("error", True)
    typo = call(tree, "fusion", "time", zne="Asia/Tokyo")
    assert (typo.kind, "did you mean zone?" in typo.text) == ("invalid", True)
    health = json.loads(call(tree, "fusion", "health").text)
    assert "mcp.fusion" in [actor["name"] for actor in health["actors"]]
    assert json.loads(call(tree, "fusion", "search_sessions", words="anything").text) == {"result": []}
