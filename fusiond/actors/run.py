"""One run of an agent, under way: what its machine wants is done here, and recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from fusiond.actors.toolbox import unknown
from fusiond.agents.limits import Budget
from fusiond.agents.machine import Act, Answer, Ask, Machine
from fusiond.errors import BadReply, ConfigError, ContextTooLong, FusionError, KeyRefused
from fusiond.protocol.agents import (
    EndRun,
    RunEvent,
    RunRecord,
    RunReply,
    RunRequest,
    RunState,
    Step,
    WriteStep,
)
from fusiond.protocol.approvals import ApprovalAsk
from fusiond.protocol.chat import Message, Usage
from fusiond.protocol.sessions import FinishTurn, TurnAnswer
from fusiond.protocol.tools import ToolInfo, ToolOutcome, approval_key

if TYPE_CHECKING:
    from fusiond.actors.running import Runs

_DIED = "the process that worked on it died"


class Waits(Exception):
    """A person must be asked first."""

    def __init__(self, ask: ApprovalAsk) -> None:
        self.ask = ask


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """In which a run is asked for. `watch` is told of each step. `history`: the conversation before the task, in
    `session`, whose `turn` the run is. `parent`, `budget`: of the run that calls it.
    """

    uid: int
    watch: Callable[[RunEvent], None]
    history: Sequence[Message] = ()
    session: str = ""
    turn: str = ""
    parent: str = ""
    budget: Budget | None = None


class Run:
    """One run, under way."""

    def __init__(
        self, runs: Runs, request: RunRequest, owner: str, record: RunRecord, around: Circumstances
    ) -> None:
        self._runs = runs
        self._request = request
        self._owner = owner
        self._around = around
        self._record = record
        self._agent = runs.agent(request.agent)
        self._model = request.model or self._agent.model
        self._budget = around.budget or runs.budget(request, self._agent)
        self._tools: dict[str, ToolInfo] = {}
        self._input_tokens: int | None = None
        self._output_tokens: int | None = None
        self._answered_by = request.agent
        self._answered_with = ""
        self._machine: Machine

    async def go(self) -> RunReply:
        """To its end."""
        tools, news = await self._runs.choose(self._agent)
        for text in news:
            self._tell(text=text)
        self._tools = {tool.name: tool for tool in tools}
        capped = not self._request.max_steps or bool(self._around.parent)
        self._machine = machine = Machine(
            self._agent,
            self._request.task,
            run=self._request.run,
            budget=self._budget,
            tools=tools,
            team=[one for one in self._runs.team() if one.name != self._agent.name],
            history=self._around.history,
            answered=self._record.answered,
            steps=self._record.steps,
            system=self._request.system,
            max_steps=self._agent.max_steps if capped else 0,
            brief=self._runs.is_small(self._model),
        )
        for step in machine.steps:
            self._count(step.input_tokens, step.output_tokens)
        while True:
            todo = machine.next()
            if isinstance(todo, Ask):
                await self._think(todo)
            elif isinstance(todo, Act):
                await self._act(todo.step)
            else:
                return await self._finish(todo)

    async def _think(self, ask: Ask) -> None:
        machine = self._machine
        began = time.monotonic()
        try:
            completion = await self._runs.complete(ask, self._request, self._model, self._budget.seconds_left)
        except ContextTooLong:
            before = machine.left_out
            if not machine.shrink():
                raise
            what = "earlier messages" if machine.left_out > before else "earlier observations"
            self._tell(text=f"{what} do not fit into the model's context and are left out (they are kept)")
            return
        if not completion.text.strip() and completion.finish_reason == "length":
            raise BadReply("the model's reply was cut before it said anything", advice="raise max_tokens")
        usage = completion.usage
        self._count(usage.input_tokens, usage.output_tokens)
        self._answered_with = completion.model
        steps = len(machine.steps)
        machine.decided(
            completion.text,
            ms=_since(began),
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            now=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        if len(machine.steps) > steps:
            self._tell(step=machine.step)
            if machine.step.state == "done":
                await self._write(machine.step)

    async def _act(self, step: Step) -> None:
        began = time.monotonic()
        if self._agent.kind == "react":
            outcome = await self._call_tool(step)
            text, kind = outcome.text, str(outcome.kind)
        else:
            text, kind = await self._call_agent(step)
        done = self._machine.observed(text, kind=kind, ms=_since(began))
        await self._write(done)
        self._tell(step=done)

    async def _call_tool(self, step: Step) -> ToolOutcome:
        tool = self._tools.get(step.tool)
        if step.state == "acting" and not (tool and tool.repeatable):
            return ToolOutcome(kind="crashed", text=unknown(_DIED))
        if tool is None:  # there when it was decided, gone since
            return ToolOutcome(kind="error", text=f"{step.tool} is not available any more")
        if self._request.approvals.get(step.call) == "no":
            return ToolOutcome(kind="denied", text="the person did not allow this call")
        approved = self._is_approved(step)
        if tool.approval == "allow" or approved:
            await self._write(self._machine.acting())
        outcome = await self._runs.call(
            tool, step.input, approved=approved, timeout=self._budget.seconds_left
        )
        if outcome.kind == "approval":
            await self._write(msgspec.structs.replace(step, state="decided"))
            raise Waits(self._ask(step))
        return outcome

    def _is_approved(self, step: Step) -> bool:
        """Whether a person has agreed: to this call, to all of this tool in this run, or to all there may be."""
        approvals = self._request.approvals
        if self._request.approve_all or approvals.get(step.call) in ("once", "always"):
            return True
        always = {each.tool for each in self._machine.steps if approvals.get(each.call) == "always"}
        return step.tool in always

    def _ask(self, step: Step) -> ApprovalAsk:
        return ApprovalAsk(
            run=self._request.run,
            call=step.call,
            agent=self._agent.name,
            tool=step.tool,
            input=step.input,
            key=approval_key(step.tool),
        )

    async def _call_agent(self, step: Step) -> tuple[str, str]:
        """The answer of another agent's run, and how it ended. It is begun, or gone on with, under the call's name."""
        if step.state != "acting":
            await self._write(self._machine.acting())
        request = msgspec.structs.replace(
            self._request, run=step.call, agent=step.tool, task=step.input, system=None
        )
        one_way = self._agent.kind == "router"
        around = msgspec.structs.replace(
            self._around,
            parent=self._request.run,
            budget=self._budget,
            history=self._around.history if one_way else (),
            turn="",
        )
        try:
            reply = await self._runs.run(request, around)
        except (ConfigError, KeyRefused):
            raise  # what is wrong is not the agent
        except FusionError as error:
            if one_way:
                raise
            return f"{step.tool} failed: {error}", "error"
        self._count(reply.usage.input_tokens, reply.usage.output_tokens)
        if one_way:
            self._answered_by = reply.answered_by or step.tool
        return reply.answer, "ok" if reply.finish_reason in ("final", "direct") else str(reply.finish_reason)

    # --- record and news ---------------------------------------------------------------------------------------------

    async def _finish(self, answer: Answer) -> RunReply:
        # shielded: an answer that is whole is recorded even if the person leaves at this very moment
        await asyncio.shield(asyncio.ensure_future(self._complete(answer)))
        return self.reply("completed", answer=answer)

    async def _complete(self, answer: Answer) -> None:
        if self._around.turn:
            said = TurnAnswer(
                text=answer.text,
                model=self._answered_with,
                finish_reason=answer.reason,
                input_tokens=self._input_tokens,
                output_tokens=self._output_tokens,
            )
            turn = FinishTurn(turn=self._around.turn, session=self._around.session, answer=said)
            await self._runs.write("sessions.finish", turn)
        await self.end("completed", answer=answer)

    def reply(
        self, state: RunState, *, answer: Answer | None = None, approval: ApprovalAsk | None = None
    ) -> RunReply:
        return RunReply(
            run=self._request.run,
            agent=self._agent.name,
            state=state,
            answer=answer.text if answer else "",
            steps=len(self._machine.steps),
            finish_reason=answer.reason if answer else None,
            usage=Usage(self._input_tokens, self._output_tokens),
            model=self._answered_with or self._model,
            session=self._around.session,
            approval=approval,
            left_out=self._machine.left_out,
            answered_by=self._answered_by,
        )

    async def end(
        self, state: RunState, *, answer: Answer | None = None, error: Exception | None = None
    ) -> None:
        """Records how it stands."""
        await self._runs.write(
            "runs.end",
            EndRun(
                run=self._request.run,
                owner=self._owner,
                state=state,
                answer=answer.text if answer else "",
                finish_reason=answer.reason if answer else None,
                error="" if error is None else str(error),
                error_code=getattr(error, "code", "") if error else "",
                model=self._answered_with or self._model,
                answered_by=self._answered_by if answer else "",
                input_tokens=self._input_tokens,
                output_tokens=self._output_tokens,
            ),
        )

    async def _write(self, step: Step) -> None:
        await self._runs.write("runs.step", WriteStep(run=self._request.run, owner=self._owner, step=step))

    def _tell(self, *, step: Step | None = None, text: str = "") -> None:
        self._around.watch(RunEvent(run=self._request.run, agent=self._agent.name, step=step, text=text))

    def _count(self, input_tokens: int | None, output_tokens: int | None) -> None:
        if input_tokens is not None:
            self._input_tokens = (self._input_tokens or 0) + input_tokens
        if output_tokens is not None:
            self._output_tokens = (self._output_tokens or 0) + output_tokens


def _since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 3)
