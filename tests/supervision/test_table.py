"""Every event in every state, against a second table written by hand."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from fusiond.protocol.control import State
from fusiond.supervision import events as ev
from fusiond.supervision.lifecycle import STATES, TABLE, Action, ImpossibleTransition, Target
from fusiond.supervision.policy import ACTIONS, step
from fusiond.supervision.state import Supervision

from .scene import Scene, spec, standby

# What follows in the plainest situation: a permanent actor (in the column "standby" a standby), nothing is
# overdue, one that drains does so for a restart. "-" is impossible.
EXPECTED = """
                starting  ready     standby   draining  backoff   failed    stopped
Spawned         starting  -         -         draining  -         -         -
SpawnFailed     starting  -         -         starting  -         -         -
StopSeen        starting  ready     standby   draining  -         -         -
Exited          starting  starting  starting  starting  -         -         -
Ready           ready     ready     standby   draining  backoff   failed    stopped
Loading         starting  ready     standby   draining  backoff   failed    stopped
Beat            starting  ready     standby   draining  backoff   failed    stopped
StuckReported   draining  draining  draining  draining  backoff   failed    stopped
StartAsked      starting  ready     standby   draining  starting  starting  starting
RestartAsked    draining  draining  draining  draining  starting  starting  starting
StopAsked       draining  draining  draining  draining  stopped   stopped   stopped
SpecChanged     draining  draining  draining  draining  starting  starting  stopped
SpecRemoved     draining  draining  draining  draining  gone      gone      gone
Tick            starting  ready     standby   draining  backoff   failed    stopped
Relieved        -         -         -         -         ready     ready     -
Promoted        -         -         backoff   -         -         -         -
"""

ROWS = {line.split()[0]: line.split()[1:] for line in EXPECTED.strip().splitlines()[1:]}
COLUMNS = EXPECTED.strip().splitlines()[0].split()
CASES = [
    (kind, state, ROWS[kind.__name__][column])
    for kind in TABLE
    for column, state in enumerate(COLUMNS)
    if state in STATES
]

WITHOUT_PROCESS = (ev.Spawned, ev.SpawnFailed)


def subject(state: State, *, with_process: bool) -> tuple[Scene, str]:
    """An actor brought into that state the way actors get there."""
    if state == "standby":
        return Scene(standby()).all_ready(), "llm.spare"
    scene = Scene(spec("llm.0"))
    if with_process or state not in ("starting", "draining"):
        scene.spawned("llm.0")
    if state == "ready":
        scene.ready("llm.0")
    elif state == "draining":
        scene.feed(ev.RestartAsked("llm.0"))
    elif state == "stopped":
        scene.feed(ev.StopAsked("llm.0"))
        scene.exits("llm.0", 0)
    while state in ("backoff", "failed") and scene["llm.0"].state != state:
        scene.exits("llm.0") if scene["llm.0"].live else scene.wake()
    assert scene["llm.0"].state == state
    return scene, "llm.0"


def example(kind: type[ev.ActorEvent] | type[ev.Tick], name: str, generation: int) -> ev.Event:
    """An event of that kind about the subject."""
    rest: dict[type, tuple[object, ...]] = {
        ev.Spawned: (77,),
        ev.SpawnFailed: ("no memory",),
        ev.Exited: ("exit", "status 1"),
        ev.SpecChanged: (spec(name, fingerprint="new"),),
        ev.Relieved: ("llm.spare",),
    }
    if kind is ev.Tick:
        return ev.Tick()
    first = (name, generation) if issubclass(kind, ev.ProcessEvent) else (name,)
    event: ev.Event = kind(*first, *rest.get(kind, ()))  # type: ignore[assignment]
    return event


@pytest.mark.parametrize(("kind", "state", "expected"), CASES)
def test_every_event_in_every_state(
    kind: type[ev.ActorEvent] | type[ev.Tick], state: State, expected: str
) -> None:
    scene, name = subject(state, with_process=kind not in WITHOUT_PROCESS)
    if kind is ev.Relieved and state in ("backoff", "failed"):
        scene = with_standby(scene)
    event = example(kind, name, scene[name].generation)
    if expected == "-":
        assert state not in TABLE[kind]
        with pytest.raises(ImpossibleTransition):
            scene.feed(event)
        return
    assert expected in TABLE[kind][state].targets
    scene.feed(event)
    after = scene.state.children.get(name)
    assert (after.state if after else "gone") == expected


def with_standby(scene: Scene) -> Scene:
    """The same actors and a standby that nobody has offered to anybody."""
    spare = Scene(standby()).all_ready()["llm.spare"]
    scene.state = Supervision(children={**scene.state.children, "llm.spare": spare})
    return scene


TARGETS = [
    (kind, state, target)
    for kind, row in TABLE.items()
    for state, cell in row.items()
    for target in cell.targets
]


def arranged(kind: type[ev.ActorEvent] | type[ev.Tick], state: State, target: Target) -> tuple[Scene, str]:
    """The subject in a situation in which the event leads to the target."""
    if (kind, state, target) == (ev.Ready, "starting", "standby"):
        scene = Scene(standby())
        scene.spawned("llm.spare")
        return scene, "llm.spare"
    scene, name = subject(state, with_process=kind not in WITHOUT_PROCESS)
    changes: dict[str, object] = {}
    if kind is ev.Tick and target != state:
        scene.later(100.0)
    elif kind is ev.Relieved:
        scene = with_standby(scene)
    elif kind is ev.StuckReported and target == state:
        changes = {"loading_at": scene.now}
    elif target == "gone" and state == "draining":
        scene.feed(ev.Reconfigured(()))
    elif kind in (ev.Exited, ev.SpawnFailed, ev.Promoted):
        changes = {"then": "decide"}
        if target == "ready":
            scene = with_standby(scene)
        elif target == "stopped":
            changes["spec"] = msgspec.structs.replace(scene[name].spec, restart="temporary")
        elif target in ("backoff", "failed"):
            changes["restarts_at"] = (scene.now,) * 20
            changes["failures"] = 5 if target == "failed" else 0
    child = msgspec.structs.replace(scene[name], **changes)
    scene.state = Supervision(children={**scene.state.children, name: child})
    return scene, name


@pytest.mark.parametrize(("kind", "state", "target"), TARGETS)
def test_whatever_the_table_promises_can_happen(
    kind: type[ev.ActorEvent] | type[ev.Tick], state: State, target: Target
) -> None:
    scene, name = arranged(kind, state, target)
    scene.feed(example(kind, name, scene[name].generation))
    after = scene.state.children.get(name)
    assert (after.state if after else "gone") == target


def test_the_table_has_a_row_for_every_event_that_concerns_one_actor() -> None:
    whole = {ev.Boot, ev.Reconfigured, ev.Shutdown}
    posted = {ev.SpecChanged, ev.SpecRemoved, ev.Relieved, ev.Promoted}
    assert set(TABLE) == (set(get_args(ev.Event)) - whole) | posted
    assert set(ROWS) == {kind.__name__ for kind in TABLE}
    assert sorted(COLUMNS) == sorted(STATES)


def test_every_action_is_named_by_the_table_and_exists() -> None:
    named = {cell.action for row in TABLE.values() for cell in row.values()}
    assert named == set(get_args(Action)) == set(ACTIONS)


@pytest.mark.parametrize("kind", [ev.Ready, ev.Loading, ev.Beat, ev.StopSeen, ev.StuckReported, ev.Exited])
@pytest.mark.parametrize("state", ["starting", "draining"])
def test_nothing_is_heard_of_a_process_before_it_is_spawned(
    kind: type[ev.ProcessEvent], state: State
) -> None:
    scene, name = subject(state, with_process=False)
    with pytest.raises(ImpossibleTransition, match="before the process"):
        scene.feed(example(kind, name, 1))


@pytest.mark.parametrize("kind", WITHOUT_PROCESS)
@pytest.mark.parametrize("state", ["starting", "draining"])
def test_no_process_is_spawned_twice(kind: type[ev.ProcessEvent], state: State) -> None:
    scene, name = subject(state, with_process=True)
    with pytest.raises(ImpossibleTransition, match="once more"):
        scene.feed(example(kind, name, 1))


@pytest.mark.parametrize("kind", [kind for kind in TABLE if issubclass(kind, ev.ProcessEvent)])
def test_an_event_of_an_old_generation_is_ignored(kind: type[ev.ProcessEvent]) -> None:
    scene, name = subject("ready", with_process=True)
    scene.killed(name)
    before = scene.state
    assert scene.feed(example(kind, name, 1)) == ()
    assert scene.state is before


def test_an_event_of_a_generation_yet_to_come_is_impossible() -> None:
    scene, name = subject("ready", with_process=True)
    with pytest.raises(ImpossibleTransition, match="yet to come"):
        scene.feed(ev.Beat(name, 2))


def test_an_impossible_transition_tells_what_led_to_it_and_changes_nothing() -> None:
    scene = Scene(spec("llm.0")).later(1.0).all_ready().later(2.5)
    before = scene.state
    with pytest.raises(ImpossibleTransition) as caught:
        scene.feed(ev.Spawned("llm.0", 1, 9))
    assert "llm.0#1: Spawned in ready cannot be" in str(caught.value)
    assert "Spawned → starting 2.500 s ago, Ready → ready 2.500 s ago" in str(caught.value)
    assert [past.event for past in caught.value.history] == ["StartAsked", "Spawned", "Ready"]
    assert scene.state is before


def test_a_second_boot_is_impossible() -> None:
    scene = Scene(spec("llm.0"))
    with pytest.raises(ImpossibleTransition):
        scene.feed(ev.Boot((spec("llm.1"),)))


def test_two_actors_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="one name"):
        Scene(spec("llm.0"), spec("llm.0"))


def test_heartbeats_do_not_push_the_history_out() -> None:
    scene = Scene(spec("llm.0")).all_ready()
    before = scene["llm.0"].history
    for _ in range(20):
        scene.later(0.1).beat("llm.0")
    assert scene["llm.0"].history == before


def test_only_the_last_few_events_are_remembered() -> None:
    scene = Scene(spec("llm.0"))
    for _ in range(10):
        scene.later(1.0).ready("llm.0")
        scene.killed("llm.0")
    assert len(scene["llm.0"].history) == 8


def test_an_event_about_an_unknown_actor_changes_nothing() -> None:
    scene = Scene(spec("llm.0"))
    before = scene.state
    for event in (ev.Beat("who", 1), ev.RestartAsked("who"), ev.Exited("who", 3, "exit", "status 0")):
        assert step(scene.state, event, scene.now) == (before, ())
