"""What holds whatever happens: random histories of a small world."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from fusiond.supervision import events as ev
from fusiond.supervision.spec import ActorSpec, Limits

from .scene import spec, standby
from .world import World

BRISK: dict[str, Any] = {"startup_timeout_s": 8.0, "shutdown_grace_s": 2.0}
SPECS: tuple[ActorSpec, ...] = (
    spec("router", **BRISK),
    spec("llm.0", **BRISK),
    standby(**BRISK),
    spec("agent.0", **BRISK, restart="transient", heartbeat_timeout_s=1.0),
    spec("tools.0", restart="temporary", startup_timeout_s=5.0, shutdown_grace_s=0.5),
)
NAMES = [one.name for one in SPECS]
LIMITS = Limits(intensity=3, max_failures=3)

ANY = st.integers(0, 1000)
SPAN = st.sampled_from([0.001, 0.02, 0.1, 0.25, 1.0, 2.0, 7.0, 16.0, 61.0])


class Supervised(RuleBasedStateMachine):
    """Nothing that the world can do breaks what the world asserts."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(SPECS, LIMITS)

    @precondition(lambda self: self.world.pending)
    @rule(i=ANY, well=st.sampled_from([True, True, True, False]))
    def a_spawn_is_answered(self, i: int, well: bool) -> None:
        self.world.answer(self.world.pending[i % len(self.world.pending)], well=well)

    @precondition(lambda self: self.world.pending or self.world.talking())
    @rule()
    def all_become_ready(self) -> None:
        for spawn in list(self.world.pending):
            self.world.answer(spawn, well=True)
        for process in self.world.talking():
            self.world.become_ready(process)

    @precondition(lambda self: self.world.talking())
    @rule(i=ANY, what=st.sampled_from(["become_ready", "load", "hang", "stop_by_signal"]))
    def a_process_does_something(self, i: int, what: str) -> None:
        getattr(self.world, what)(self.world.talking()[i % len(self.world.talking())])

    @precondition(lambda self: self.world.talking())
    @rule(i=ANY)
    def a_process_is_stuck(self, i: int) -> None:
        process = self.world.talking()[i % len(self.world.talking())]
        self.world.feed(ev.StuckReported(process.name, process.generation))

    @precondition(lambda self: self.world.living())
    @rule(i=ANY, status=st.sampled_from(["SIGKILL", "status 0", "status 1"]), seen=st.booleans())
    def a_process_dies(self, i: int, status: str, seen: bool) -> None:
        process = self.world.living()[i % len(self.world.living())]
        self.world.die(process, status)
        if seen:
            self.world.report_exit(process)

    @precondition(lambda self: self.world.dead())
    @rule(i=ANY)
    def an_exit_is_seen(self, i: int) -> None:
        self.world.report_exit(self.world.dead()[i % len(self.world.dead())])

    @precondition(lambda self: self.world.dead())
    @rule(i=ANY)
    def the_last_word_of_a_dead_process_is_read(self, i: int) -> None:
        process = self.world.dead()[i % len(self.world.dead())]
        self.world.report_exit(process)
        self.world.feed(ev.Beat(process.name, process.generation))

    @rule(seconds=SPAN, jitter=st.floats(0, 1))
    def time_passes(self, seconds: float, jitter: float) -> None:
        self.world.jitter = jitter
        self.world.pass_time(seconds)

    @rule(seconds=SPAN)
    def the_supervisor_is_late(self, seconds: float) -> None:
        self.world.now += seconds
        self.world.tick(late_s=seconds)

    @rule(i=ANY, order=st.sampled_from([ev.StartAsked, ev.RestartAsked, ev.StopAsked]))
    def a_person_orders(self, i: int, order: type[ev.ActorEvent]) -> None:
        self.world.feed(order(NAMES[i % len(NAMES)]))  # type: ignore[arg-type]

    @rule(kept=st.lists(st.booleans(), min_size=len(SPECS), max_size=len(SPECS)), mark=st.sampled_from("ab"))
    def the_configuration_changes(self, kept: list[bool], mark: str) -> None:
        wanted = [one for one, keep in zip(SPECS, kept, strict=True) if keep]
        if wanted:
            wanted[0] = msgspec.structs.replace(wanted[0], fingerprint=mark)
        self.world.feed(ev.Reconfigured(tuple(wanted)))

    @rule(sure=st.integers(0, 7))
    def everything_is_shut_down(self, sure: int) -> None:
        if sure == 0:
            self.world.feed(ev.Shutdown())

    def teardown(self) -> None:
        self.world.end_well()


Supervised.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSupervised = Supervised.TestCase
