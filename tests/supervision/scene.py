"""A supervision that a test feeds by hand: the clock stands until the test moves it."""

from __future__ import annotations

from typing import Any

from fusiond.protocol.control import State
from fusiond.supervision import policy
from fusiond.supervision.effects import Effect, Record, Spawn
from fusiond.supervision.events import Beat, Boot, Event, Exited, Loading, Ready, Spawned, StopSeen, Tick
from fusiond.supervision.spec import ActorSpec, Limits
from fusiond.supervision.state import Child, Supervision


def spec(name: str, **changes: Any) -> ActorSpec:
    """An actor with the default patience; its kind and service are its name up to the dot."""
    base: dict[str, Any] = {
        "name": name,
        "kind": name.partition(".")[0],
        "service": name.partition(".")[0],
        "heartbeat_timeout_s": 2.0,
        "heartbeat_interval_s": 0.25,
        "startup_timeout_s": 30.0,
        "shutdown_grace_s": 5.0,
    }
    return ActorSpec(**base | changes)


def standby(name: str = "llm.spare", **changes: Any) -> ActorSpec:
    return spec(name, **{"kind": "llm", "service": "", "standby_for": "llm"} | changes)


class Scene:
    """Booted with these specs. `effects` are those of the last step, `log` all of them."""

    def __init__(self, *specs: ActorSpec, limits: Limits | None = None, jitter: float = 1.0) -> None:
        self.state = Supervision(limits=limits or Limits())
        self.now = 1000.0
        self.jitter = jitter
        self.effects: tuple[Effect, ...] = ()
        self.log: list[Effect] = []
        self._pid = 100
        self.feed(Boot(specs))

    def feed(self, event: Event) -> tuple[Effect, ...]:
        self.state, self.effects = policy.step(self.state, event, self.now, self.jitter)
        self.log += self.effects
        return self.effects

    def state_of(self, name: str) -> State:
        return self[name].state

    def __getitem__(self, name: str) -> Child:
        return self.state.children[name]

    def later(self, seconds: float) -> Scene:
        self.now += seconds
        return self

    def tick(self, late_s: float = 0.0) -> tuple[Effect, ...]:
        return self.feed(Tick(late_s))

    def wake(self) -> tuple[Effect, ...]:
        """A `Tick` at exactly the time at which the policy wants one."""
        at = policy.next_wake(self.state)
        assert at is not None
        assert at >= self.now
        self.now = at
        return self.tick()

    def spawned(self, name: str) -> tuple[Effect, ...]:
        self._pid += 1
        return self.feed(Spawned(name, self[name].generation, self._pid))

    def ready(self, name: str) -> tuple[Effect, ...]:
        """Says ready; spawned first if it was not."""
        if self[name].pid is None:
            self.spawned(name)
        return self.feed(Ready(name, self[name].generation))

    def beat(self, name: str) -> tuple[Effect, ...]:
        return self.feed(Beat(name, self[name].generation))

    def loading(self, name: str) -> tuple[Effect, ...]:
        return self.feed(Loading(name, self[name].generation))

    def stop_seen(self, name: str) -> tuple[Effect, ...]:
        return self.feed(StopSeen(name, self[name].generation))

    def exits(self, name: str, status: int = 1, message: str = "") -> tuple[Effect, ...]:
        """Ends by itself with this status; spawned first if it was not."""
        if self[name].pid is None:
            self.spawned(name)
        event = Exited(name, self[name].generation, "exit", f"status {status}", status == 0, message)
        return self.feed(event)

    def killed(self, name: str, signal: str = "SIGKILL") -> tuple[Effect, ...]:
        """Ends by a signal; spawned first if it was not."""
        if self[name].pid is None:
            self.spawned(name)
        return self.feed(Exited(name, self[name].generation, "signal", signal))

    def all_ready(self) -> Scene:
        for name, child in self.state.children.items():
            if child.state == "starting":
                self.ready(name)
        return self

    def records(self) -> list[str]:
        """The kinds recorded in the last step."""
        return [effect.kind for effect in self.effects if isinstance(effect, Record)]

    def record(self, kind: str) -> Record:
        """The one record of that kind in the last step."""
        [found] = [effect for effect in self.effects if isinstance(effect, Record) and effect.kind == kind]
        return found

    def done(self) -> list[Effect]:
        """What is to be done after the last step, records left out."""
        return [effect for effect in self.effects if not isinstance(effect, Record)]

    def spawns(self, name: str) -> bool:
        """Whether the last step asked for a new process of `name`."""
        return Spawn(name, self[name].generation) in self.effects
