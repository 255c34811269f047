"""The door itself: what it costs, what it gives back, when it wants to be called again."""

from __future__ import annotations

import ast
import timeit
from pathlib import Path

import fusiond.supervision
from fusiond.supervision.events import Beat, Boot, StopAsked, Tick
from fusiond.supervision.policy import next_wake, step
from fusiond.supervision.spec import Limits
from fusiond.supervision.state import Supervision

from .scene import Scene, spec

FORBIDDEN = {"zmq", "asyncio", "os", "signal", "subprocess", "time", "random", "socket", "datetime"}


def test_a_heartbeat_costs_less_than_15_us() -> None:
    scene = Scene(*(spec(f"llm.{n}") for n in range(10))).all_ready()
    beat = Beat("llm.4", 1)
    runs = timeit.repeat(lambda: step(scene.state, beat, scene.now), number=200, repeat=20)
    assert min(runs) / 200 < 15e-6


def test_a_heartbeat_changes_one_child_and_leaves_the_old_state_as_it_was() -> None:
    scene = Scene(spec("llm.0"), spec("llm.1")).all_ready()
    before = scene.state
    after, effects = step(before, Beat("llm.0", 1), scene.now + 1.0)
    assert effects == ()
    assert before.children["llm.0"].last_seen == scene.now
    assert after.children["llm.0"].last_seen == scene.now + 1.0
    assert after.children["llm.1"] is before.children["llm.1"]


def test_with_nobody_to_watch_there_is_no_next_wake() -> None:
    assert next_wake(Supervision()) is None
    scene = Scene(spec("llm.0")).all_ready()
    scene.feed(StopAsked("llm.0"))
    scene.exits("llm.0", 0)
    assert next_wake(scene.state) is None


def test_the_next_wake_is_the_earliest_of_all() -> None:
    scene = Scene(spec("llm.0"), spec("agent.0", heartbeat_timeout_s=1.0), spec("store"))
    scene.ready("llm.0")
    assert next_wake(scene.state) == scene.now + 2.0
    scene.ready("agent.0")
    assert next_wake(scene.state) == scene.now + 1.0


def test_a_tick_with_nobody_there_changes_nothing() -> None:
    state = Supervision()
    assert step(state, Tick(5.0), 1.0) == (state, ())


def test_a_failing_actor_takes_nobody_with_it() -> None:
    scene = Scene(spec("llm.0"), spec("agent.0"), limits=Limits(max_failures=0)).all_ready()
    agent = scene["agent.0"]
    scene.exits("llm.0")
    scene.exits("llm.0")
    assert scene["llm.0"].state == "failed"
    assert scene["agent.0"] is agent


def test_the_same_history_gives_the_same_state() -> None:
    specs = (spec("llm.0"), spec("store"))
    assert step(Supervision(), Boot(specs), 1.0) == step(Supervision(), Boot(specs), 1.0)


def test_the_room_is_pure() -> None:
    folder = Path(fusiond.supervision.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & FORBIDDEN, path.name
