"""Agents and their runs: the bodies of the agent's verbs `list`, `show`, `run`, and of the store's verbs `runs.*`.

| verb | body | reply | public |
|---|---|---|---|
| agent `list` | – | list[AgentInfo] | yes |
| agent `show` | AgentName | AgentDetail | yes |
| agent `run` | RunRequest | a stream of RunEvent, then RunReply | yes |
| store `runs.begin` | BeginRun | RunRecord | no |
| store `runs.step` | WriteStep | – | no |
| store `runs.end` | EndRun | – | no |
| store `runs.list` | ListRuns | list[RunSummary] | yes |
| store `runs.show` | RunId | RunDetail | yes |

A run is named by 32 hex digits that whoever begins it makes up, or by a beginning of them that fits only one. `run`
sent again under the same name goes on with it, from its last recorded step: so a run outlives every process, and one
that waits for a person's approval (`RunReply.approval`) goes on when it is sent again with the verdict.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fusiond.protocol.approvals import ApprovalAsk, Verdict
from fusiond.protocol.chat import Usage

RunState = Literal["running", "waiting", "interrupted", "completed", "failed", "cancelled"]
"""`waiting`: for an approval. `interrupted`: the daemon ended while it ran; `resume` goes on with it. `failed`: its
error is recorded; `completed` has an answer, be it one given at a limit."""

FinishReason = Literal["final", "direct", "step_limit", "token_limit", "time_limit", "loop_detected"]
"""`direct`: the model's words were no decision and were taken as the answer."""

StepState = Literal["decided", "acting", "done"]
"""`decided`: the action has not begun. `acting`: it has; found so after a crash, its outcome is unknown."""


class AgentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An agent in a list. `source`: `built-in`, `configuration`, `module NAME`. `problem`: why it cannot be used."""

    name: str
    description: str
    tools: list[str]
    source: str
    problem: str = ""


class AgentDetail(AgentInfo, frozen=True, kw_only=True):
    """`model`: "" for the default. `max_steps`: 0 for the default."""

    system_prompt: str
    model: str = ""
    max_steps: int = 0


class AgentName(msgspec.Struct, frozen=True):
    name: str


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Runs `agent` on `task`; under a known `run` goes on with it, and then only the verdicts count.

    `approvals`: by the call's id, what a person said. `approve_all`: every call that would be asked about is approved
    (`--yes`). `max_steps`, `max_tokens`, `max_seconds`: 0 for the configured ones.
    """

    run: str
    agent: str = ""
    task: str = ""
    model: str = ""
    system: str | None = None
    options: dict[str, Any] = {}
    max_steps: int = 0
    max_tokens: int = 0
    max_seconds: float = 0.0
    approvals: dict[str, Verdict] = {}
    approve_all: bool = False


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a run: what the model thought, what it did, what it saw.

    `tool`: the tool, or for a supervisor the agent it called; "" for none. `input`: JSON, or the task. `call`: names
    the call, for approvals; for an agent that was called, its run. `observation`: None until there is one. `kind`: how
    the call ended. `think_ms`, `act_ms`: how long it took to decide and to act. `said`: the model's own words where
    they are not the decision in its normal form.
    """

    n: int
    state: StepState
    thought: str = ""
    tool: str = ""
    input: str = ""
    call: str = ""
    observation: str | None = None
    kind: str = ""
    said: str = ""
    think_ms: float = 0.0
    act_ms: float = 0.0
    input_tokens: int | None = None
    output_tokens: int | None = None
    time: str = ""


class RunEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened in a run, for whoever watches. A step is told once when decided and once when done.

    `run`, `agent`: of a run that this one called, or of this one. `text`: a piece of news in words ("…left out").
    """

    run: str
    agent: str
    step: Step | None = None
    text: str = ""


class RunReply(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended, or that it waits for an approval. `answer`: "" where there is none.

    `steps`: how many. `left_out`: messages of the conversation that did not fit into the model's context.
    `answered_by`: the agent whose answer it is, where a router chose one.
    """

    run: str
    agent: str
    state: RunState
    answer: str = ""
    steps: int = 0
    finish_reason: FinishReason | None = None
    usage: Usage = Usage()
    model: str = ""
    session: str = ""
    approval: ApprovalAsk | None = None
    left_out: int = 0
    answered_by: str = ""
    attempts: int = 1


# --- the record ------------------------------------------------------------------------------------------------------


class BeginRun(msgspec.Struct, frozen=True, kw_only=True):
    """Makes a run, or takes over the one of this name: from now on only `owner` may write to it.

    `owner`: made up anew by each process that works on the run. `request`: msgpack of what it was asked. `turn`: the
    turn of `session` whose answer it is to be, "" for none. `parent`: the run that called it.
    """

    run: str
    owner: str
    agent: str
    task: str
    request: bytes
    parent: str = ""
    session: str = ""
    turn: str = ""
    uid: int = -1


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A run in a list. Times as everywhere. `steps`: how many are recorded."""

    id: str
    agent: str
    state: RunState
    task: str
    steps: int
    answer: str
    created: str
    updated: str
    finish_reason: FinishReason | None = None
    error: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    session: str = ""
    parent: str = ""
    model: str = ""
    answered_by: str = ""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All that is needed to go on. `request`: as it was first made; `error_code` of a failed one.

    `answered`: the agents that have answered in its conversation before, the latest last.
    """

    summary: RunSummary
    request: bytes
    steps: list[Step]
    error_code: str = ""
    turn: str = ""
    answered: list[str] = []


class RunDetail(RunSummary, frozen=True, kw_only=True):
    """`trace`: the steps themselves."""

    trace: list[Step]


class WriteStep(msgspec.Struct, frozen=True, kw_only=True):
    """Records a step, or its next state. Refused (`denied`) to anybody but the run's owner."""

    run: str
    owner: str
    step: Step
    state: RunState = "running"


class EndRun(msgspec.Struct, frozen=True, kw_only=True):
    """Records how a run ended, or that it waits or was interrupted. Refused to anybody but the run's owner."""

    run: str
    owner: str
    state: RunState
    answer: str = ""
    finish_reason: FinishReason | None = None
    error: str = ""
    error_code: str = ""
    model: str = ""
    answered_by: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None


class ListRuns(msgspec.Struct, frozen=True):
    """The newest `limit` runs; `session`: of this conversation only. Runs that others called are left out."""

    limit: int = 100
    session: str = ""
    uid: int = -1


class RunId(msgspec.Struct, frozen=True):
    id: str
    uid: int = -1
