"""Tools of all manners in one running tree: what each does costs its own call at most."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fusiond.errors import NotFound
from tests.tools.toolbox import CONFIG, MODULE, Box, call, calling, opened, template_of, titled
from tests.tree import Tree, eventually, running


@pytest.fixture(scope="module")
def tools() -> Iterator[Tree]:
    config = CONFIG.replace('["toolbox"]', '["broken", "toolbox"]')
    config += '[tools.approval]\nask_me = "ask"\nforbidden = "never"\n'
    files = {"toolbox.py": MODULE, "broken.py": "import nothing_of_that_name\n"}
    with running(config, files) as tree:
        yield tree


def works(tree: Tree) -> bool:
    return call(tree, "add", a=1, b=2).text == "3"


def test_a_call_is_answered(tools: Tree) -> None:
    outcome = call(tools, "add", a=1, b=2)
    assert (outcome.kind, outcome.text, outcome.cut) == ("ok", "3", 0)


def test_wrong_arguments_are_refused_in_words(tools: Tree) -> None:
    outcome = call(tools, "add", a=1)
    assert outcome.kind == "invalid"
    assert "b" in outcome.text


def test_a_module_that_cannot_be_imported_is_listed_and_hurts_no_other(tools: Tree) -> None:
    listed = {info.name: info for info in calling(tools, Box.list)}
    assert "nothing_of_that_name" in listed["broken"].problem
    assert (listed["add"].problem, listed["add"].source) == ("", "module toolbox")
    assert call(tools, "broken").kind == "denied"


def test_an_unknown_tool_is_not_found_and_the_nearest_named(tools: Tree) -> None:
    with pytest.raises(NotFound, match="did you mean add"):
        call(tools, "adds")


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "words"),
    [
        ("hang", {}, "timeout", "not done after 2 s"),
        ("hog", {}, "crashed", "more than 128 MB"),
        ("shared_hog", {}, "crashed", "more than 128 MB"),
        ("segfault", {}, "crashed", "SIGSEGV"),
        ("leave", {"status": 0}, "crashed", "status 0"),
        ("leave", {"status": 139}, "crashed", "status 139"),
        ("stop_self", {"number": 9}, "crashed", "SIGKILL"),
        ("stop_group", {"number": 15}, "crashed", "SIGTERM"),
        ("stop_self", {"number": 19}, "timeout", "not done"),
        ("scribble", {}, "crashed", "wrote into the connection"),
    ],
)
def test_a_tool_that_goes_wrong_costs_one_call(
    tools: Tree, name: str, arguments: dict[str, Any], kind: str, words: str
) -> None:
    before = tools.actor("tools")["pid"]
    outcome = call(tools, name, **arguments)
    assert outcome.kind == kind
    assert words in outcome.text
    assert not titled(tools, f"fusiond: tools.worker {name}")
    assert not titled(tools, "sleep")
    assert works(tools)
    assert tools.actor("tools")["pid"] == before


@pytest.mark.parametrize("name", ["daemonise", "start_thread", "fork_back", "settle"])
def test_what_a_tool_leaves_behind_ends_with_its_call(tools: Tree, name: str) -> None:
    keepers = titled(tools, "fusiond: tools.keeper")
    assert call(tools, name).kind == "ok"
    eventually(lambda: any(not each.is_running() for each in keepers))
    assert works(tools)
    eventually(
        lambda: len(titled(tools, "fusiond: tools.worker")) <= len(titled(tools, "fusiond: tools.keeper"))
    )


def test_a_worker_that_nothing_was_left_in_is_used_again(tools: Tree) -> None:
    assert works(tools)
    keepers = titled(tools, "fusiond: tools.keeper")
    for _ in range(20):
        assert works(tools)
    assert all(each.is_running() for each in keepers)


def test_the_middle_of_a_long_output_is_left_out(tools: Tree) -> None:
    outcome = call(tools, "long", size=50_000_000)
    assert outcome.kind == "ok"
    assert outcome.text.startswith("begin")
    assert outcome.text.endswith("end")
    assert outcome.cut == 50_000_008 - 1000
    assert f"{outcome.cut:,} bytes left out" in outcome.text
    assert len(outcome.text) < 1100


def test_what_a_tool_prints_goes_to_the_log_as_far_as_it_has_room(tools: Tree) -> None:
    log = tools.home / "state" / "logs" / "tools.log"
    before = log.stat().st_size
    assert call(tools, "chatter", lines=50_000).text == "said"
    assert call(tools, "leave", status=1).kind == "crashed"
    eventually(lambda: b"line 0 yyy" in log.read_bytes()[before:])
    assert log.stat().st_size - before < 300_000
    assert works(tools)


def test_tools_work_in_the_workspace_without_keys_and_see_no_other_process(tools: Tree) -> None:
    assert call(tools, "wander").text == "/"
    seen = json.loads(call(tools, "look_around").text)
    assert seen["folder"] == str(tools.home / "state" / "workspace")
    assert seen["mark"] == str(tools.home / "run")
    assert seen["keys"] == []
    assert seen["processes"] == 2
    isolation = calling(tools, lambda box: box.show("add")).isolation
    assert "namespace" in isolation


def test_a_person_decides_where_the_configuration_says_so(tools: Tree) -> None:
    assert call(tools, "ask_me", number="x").kind == "invalid"
    asked = call(tools, "ask_me", number=1)
    assert (asked.kind, "tools.approval.ask_me" in asked.text) == ("approval", True)
    assert call(tools, "ask_me", approved=True, number=1).text == "1"
    assert call(tools, "forbidden", approved=True).kind == "denied"


async def test_no_more_calls_run_at_once_than_there_may_be_workers_and_none_is_lost(tools: Tree) -> None:
    async with opened(tools) as box:
        started = time.monotonic()
        outcomes = await asyncio.gather(*(box.call("nap", seconds=0.05) for _ in range(48)))
        assert [outcome.text for outcome in outcomes] == ["awake"] * 48
        assert time.monotonic() - started > 48 * 0.05 / 4


async def test_a_call_that_is_taken_back_ends_its_worker(tools: Tree) -> None:
    async with opened(tools) as box:
        asking = asyncio.create_task(box.call("nap", seconds=1.9))
        await asyncio.to_thread(eventually, lambda: titled(tools, "fusiond: tools.worker nap"))
        asking.cancel()
        started = time.monotonic()
        await asyncio.to_thread(eventually, lambda: not titled(tools, "fusiond: tools.worker nap"))
        assert time.monotonic() - started < 1.0
        assert (await box.call("add", a=1, b=2)).text == "3"


async def test_a_call_ends_at_its_deadline_if_that_is_before_the_tools_own(tools: Tree) -> None:
    async with opened(tools) as box:
        started = time.monotonic()
        assert (await box.call("hang", within=0.5)).kind == "timeout"
        assert time.monotonic() - started < 1.5
        await asyncio.to_thread(eventually, lambda: not titled(tools, "fusiond: tools.worker hang"))


def test_health_lists_the_processes_behind_the_actor(tools: Tree) -> None:
    assert works(tools)
    keepers = {each.pid for each in titled(tools, "fusiond: tools.keeper")}
    template = template_of(tools)
    eventually(lambda: keepers | {template.pid} <= set(tools.actor("tools")["children"]))
