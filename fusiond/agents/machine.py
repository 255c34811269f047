"""A run of an agent as a state machine.

It is made from what is recorded (the task, the steps so far) and says what is to be done next:

    Ask ──decided──► Act ──observed──► Ask ── … ──► Answer
     ▲                │
     └── no decision: asked again, twice at most; then the words are the answer

A step is `decided`, then `acting`, then `done`. So a machine made from a record that breaks off goes on at the very
place: with the action that had not begun, or, for one that had, with whatever the driver knows of its outcome.

| kind | Act is | the answer is |
|---|---|---|
| react | a tool | the model's |
| supervisor | another agent, as often as it wants | the model's |
| router | another agent, once | that agent's |
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from fusiond.agents import prompts
from fusiond.agents.decisions import Act as Decided
from fusiond.agents.decisions import Final, Malformed, Words, read, schema
from fusiond.agents.definition import Agent
from fusiond.agents.history import shorter
from fusiond.agents.limits import WARNED, Budget, Call, call_of
from fusiond.protocol.agents import FinishReason, Step
from fusiond.protocol.chat import Message
from fusiond.protocol.tools import ToolInfo

AGAIN = 2
"""How often a reply that is no decision is asked for anew."""

_FALLBACK = "general"
_KEPT = 2  # of the latest observations: whole for as long as possible
_LEFT_OUT = "(left out: it does not fit into the model's context any more)"


class Ask(msgspec.Struct, frozen=True):
    """Ask the model. `schema`: what its reply must satisfy, where the provider can see to that."""

    messages: list[Message]
    schema: dict[str, object] | None


class Act(msgspec.Struct, frozen=True):
    """Do what the step says; then call `acting`, and `observed` with the outcome."""

    step: Step


class Answer(msgspec.Struct, frozen=True):
    """The run ends."""

    text: str
    reason: FinishReason


Todo = Ask | Act | Answer


class Machine:
    """One run of `agent`. `tools`: those that it may use. `team`: the agents that it may call.

    `steps`: what is recorded. `brief`: for a model that must be kept short (see `decisions.schema`).
    """

    def __init__(
        self,
        agent: Agent,
        task: str,
        *,
        run: str,
        budget: Budget,
        tools: Sequence[ToolInfo] = (),
        team: Sequence[Agent] = (),
        history: Sequence[Message] = (),
        answered: Sequence[str] = (),
        steps: Sequence[Step] = (),
        system: str | None = None,
        max_steps: int = 0,
        brief: bool = False,
    ) -> None:
        self._agent = agent if system is None else replace(agent, system_prompt=system)
        self._task = task
        self._run = run
        self._tools = {tool.name: tool for tool in tools}
        self._team = {one.name: one for one in team}
        self._history = list(history)
        self._budget = budget
        self._max_steps = max_steps
        self._system = prompts.system(self._agent, tools, team, answered)
        self._schema = schema(agent.kind, tools, self._team, brief=brief)
        self._retries: list[Message] = []
        self._answer: Answer | None = None
        self._last = False  # the model has been asked for its last words
        self._cut: set[int] = set()  # steps whose observation is no longer told
        self._counts: Counter[Call] = Counter()  # how often each call was decided on
        self._repeats: list[int] = []  # that count, as it was at each step
        self._told: list[Message] = []  # the steps that are done, as messages
        self.left_out = 0
        self.steps: list[Step] = []
        for step in steps:
            self._add(step)
            budget.spend(step)
            if step.state == "done":
                self._tell(step)
                budget.wait(step.act_ms if agent.kind == "react" else 0.0)

    def __repr__(self) -> str:
        return f"Machine({self._agent.name}, {len(self.steps)} steps, {self._budget})"

    @property
    def step(self) -> Step:
        """The latest."""
        return self.steps[-1]

    def next(self) -> Todo:
        """What is to be done now. Asked again, the same."""
        if self._answer is not None:
            return self._answer
        if self.steps and self.step.state != "done":
            return Act(self.step)
        if self._agent.kind == "router" and self.steps:
            return Answer(self.step.observation or "", "final")
        if self.steps and self.step.kind == "loop":
            return Answer("", "loop_detected")
        limit = self._limit()
        if limit == "step_limit" and self._agent.kind != "router":
            self._last = True
            return Ask(self._messages(Message("user", prompts.LAST)), None)
        if limit is not None and limit != "step_limit":
            return Answer("", limit)
        wants = self._schema if self._tools or self._agent.kind != "react" else None
        return Ask(self._messages(), wants)

    def decided(
        self,
        said: str,
        *,
        ms: float = 0.0,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        now: str = "",
    ) -> None:
        """The model's reply to the last `Ask`."""
        self._budget.think(ms, input_tokens, output_tokens)
        if self._last:
            self._answer = Answer(_plain(said), "step_limit")
            return
        decision = read(self._agent.kind, said)
        if isinstance(decision, Decided) and self._agent.kind != "react":
            decision = self._chosen(decision)
        if isinstance(decision, Malformed) and len(self._retries) < 2 * AGAIN:
            self._retries += [
                Message("assistant", said or "(nothing)"),
                Message("user", prompts.again(decision.why)),
            ]
            return
        if isinstance(decision, Malformed | Words):
            if self._agent.kind == "router" and self._team:
                decision = Decided("no agent was chosen", self._fallback(), "")
            else:
                self._answer = Answer(said.strip(), "direct")
                return
        if isinstance(decision, Final):
            self._answer = Answer(decision.answer, "final")
            return
        self._retries.clear()
        n = len(self.steps) + 1
        step = Step(
            n=n,
            state="decided",
            thought=decision.thought,
            tool=decision.target,
            input=self._input(decision),
            call=f"{self._run}.{n}",
            said="" if said.strip() == _normal(self._agent, decision) else said,
            think_ms=ms,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            time=now,
        )
        self._add(step)
        self._budget.steps += 1
        if self._repeats[-1] > WARNED:
            self.observed(f"not done: the same call for the {self._repeats[-1]}th time", kind="loop")
        elif self._agent.kind == "react" and decision.target not in self._tools:
            self.observed(_unknown("tool", decision.target, list(self._tools)), kind="invalid")

    def acting(self) -> Step:
        """The action begins."""
        self.steps[-1] = replace(self.step, state="acting")
        return self.step

    def observed(self, text: str, *, kind: str = "ok", ms: float = 0.0) -> Step:
        """The action's outcome."""
        self.steps[-1] = replace(self.step, state="done", observation=text, kind=kind, act_ms=ms)
        self._tell(self.step)
        if self._agent.kind == "react":
            self._budget.wait(ms)
        return self.step

    def shrink(self) -> bool:
        """Asks for less: the last `Ask` did not fit into the model's context. False if nothing more can be spared."""
        if self._history:
            kept = shorter([*self._history, Message("user", self._task)])[:-1]
            self.left_out += len(self._history) - len(kept)
            self._history = kept
            return True
        told = [step.n for step in self.steps if step.n not in self._cut and step.observation]
        if not told:
            return False
        older = told[:-_KEPT]
        self._cut.update(older[: (len(older) + 1) // 2] or told[:1])
        self._told.clear()
        for step in self.steps:
            self._tell(step)
        return True

    # --- inside ------------------------------------------------------------------------------------------------------

    def _limit(self) -> FinishReason | None:
        if self._max_steps and len(self.steps) >= self._max_steps:
            return "step_limit"
        return self._budget.exhausted()

    def _add(self, step: Step) -> None:
        call = call_of(step.tool, _parsed(step.input))
        self._counts[call] += 1
        self._repeats.append(self._counts[call])
        self.steps.append(step)

    def _tell(self, step: Step) -> None:
        """A step that is done becomes part of what the model reads."""
        self._told += [
            Message("assistant", _as_decision(self._agent, step)),
            Message("user", self._observation(step)),
        ]

    def _input(self, decision: Decided) -> str:
        if self._agent.kind == "router":
            return self._task
        return decision.input if isinstance(decision.input, str) else json.dumps(decision.input)

    def _chosen(self, decision: Decided) -> Decided | Malformed:
        """A name that is nearly right is; any other is not."""
        if decision.target in self._team:
            return decision
        if near := _nearest(decision.target.lower(), self._team, 0.8):
            return Decided(decision.thought, near, decision.input)
        return Malformed(_unknown("agent", decision.target, list(self._team)))

    def _fallback(self) -> str:
        return _FALLBACK if _FALLBACK in self._team else next(iter(self._team))

    def _messages(self, *last: Message) -> list[Message]:
        messages = [Message("system", self._system)] if self._system else []
        messages += [*self._history, Message("user", self._task), *self._told, *self._retries]
        for message in last:  # two of the same role in a row are refused by some
            if messages[-1].role == message.role:
                joined = f"{messages[-1].content}\n\n{message.content}"
                messages[-1] = Message(message.role, joined)
            else:
                messages.append(message)
        return messages

    def _observation(self, step: Step) -> str:
        text = _LEFT_OUT if step.n in self._cut else step.observation or ""
        count = self._repeats[step.n - 1]
        warning = prompts.repeated(count) if count >= WARNED else ""
        return prompts.observation(step.tool, step.kind, text, warning)


def _parsed(given: str) -> object:
    try:
        parsed: object = json.loads(given)
    except ValueError:
        return given
    return parsed


def _plain(said: str) -> str:
    """Last words; a model that clings to its form is understood."""
    decision = read("react", said)
    return decision.answer if isinstance(decision, Final) else said.strip()


def _normal(agent: Agent, decision: Decided) -> str:
    return _form(agent, decision.thought, decision.target, decision.input)


def _as_decision(agent: Agent, step: Step) -> str:
    given = step.input if agent.kind != "react" else _parsed(step.input)
    return _form(agent, step.thought, step.tool, given)


def _form(agent: Agent, thought: str, target: str, given: object) -> str:
    """A decision as a model is to write it."""
    end = {"is_final": False, "final_answer": None}
    document: dict[str, object]
    if agent.kind == "router":
        document = {"agent_name": target, "reasoning": thought}
    elif agent.kind == "supervisor":
        document = {"thought": thought, "agent_to_invoke": target, "agent_task": given, **end}
    else:
        document = {"thought": thought, "action": {"tool": target, "input": given}, **end}
    return json.dumps(document, ensure_ascii=False)


def _unknown(what: str, name: str, known: list[str]) -> str:
    near = _nearest(name, known, 0.6)
    meant = f", did you mean {near}?" if near else ""
    return f"there is no {what} {name!r}{meant or ';'} there are: {', '.join(known) or 'none'}"


def _nearest(name: str, known: Iterable[str], cutoff: float) -> str | None:
    from difflib import get_close_matches  # 200 kB, for a name that is wrong

    return next(iter(get_close_matches(name, list(known), 1, cutoff)), None)
