"""Drives runs of agents: asks the model, calls tools and other agents, and records each step before and after.

What is to be done next is `fusiond.agents.machine`'s to say. A run that breaks off, wherever, goes on when it is asked
for again under its name: the record is all that is needed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from contextlib import suppress

import msgspec

from fusiond.actors.base import Port
from fusiond.actors.crew import Crew
from fusiond.actors.run import Circumstances, Run, Waits
from fusiond.actors.toolbox import Toolbox
from fusiond.agents.definition import Agent
from fusiond.agents.limits import Budget
from fusiond.agents.machine import Ask
from fusiond.config.schema import LOCAL, AgentsSettings
from fusiond.errors import (
    BadRequest,
    FusionError,
    UsageError,
)
from fusiond.protocol.agents import (
    BeginRun,
    EndRun,
    RunRecord,
    RunReply,
    RunRequest,
    WriteStep,
)
from fusiond.protocol.chat import Completion, CompletionRequest, Usage
from fusiond.protocol.sessions import BeginTurn, Conversation, FinishTurn
from fusiond.protocol.tools import ToolInfo, ToolOutcome

log = logging.getLogger(__name__)

_encode = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(RunRecord).decode
_decode_request = msgspec.msgpack.Decoder(RunRequest).decode
_decode_conversation = msgspec.msgpack.Decoder(Conversation).decode
_decode_completion = msgspec.msgpack.Decoder(Completion).decode


class Runs:
    """All runs of one process; each is a task of its own."""

    def __init__(self, port: Port, crew: Crew, settings: AgentsSettings, default_model: str) -> None:
        self._port = port
        self._crew = crew
        self._settings = settings
        self._default_model = default_model
        self._toolbox = Toolbox(port)
        self._unconstrained: set[str] = set()  # models whose provider does not take our schemas
        self._recordings: set[asyncio.Task[None]] = set()

    async def settle(self) -> None:
        """Waits for what is still to be recorded."""
        if self._recordings:
            await asyncio.wait(self._recordings)

    async def run(self, request: RunRequest, around: Circumstances) -> RunReply:
        """How the run ended, or that it waits for an approval. Raises what made it fail."""
        if request.agent:
            self._crew.get(request.agent)  # before anything is recorded of a misspelt one
        owner = os.urandom(8).hex()
        record = await self._begin(request, owner, around)
        if record.summary.state == "completed":
            return _recorded(record)
        first = _decode_request(record.request)
        if record.turn and not around.turn:  # resumed by itself: its conversation comes along
            around = await self._conversation(record, around)
        run = Run(self, msgspec.structs.replace(request, **_fixed(first)), owner, record, around)
        try:
            return await run.go()
        except Waits as waits:
            await run.end("waiting")
            if around.parent:
                raise
            return run.reply("waiting", approval=waits.ask)
        except asyncio.CancelledError:
            self.keep(run.end("cancelled"))
            raise
        except Exception as error:
            with suppress(FusionError):  # the error that led here says more
                await run.end("failed", error=error)
            raise

    async def _begin(self, request: RunRequest, owner: str, around: Circumstances) -> RunRecord:
        begin = BeginRun(
            run=request.run,
            owner=owner,
            agent=request.agent,
            task=request.task,
            request=_encode(msgspec.structs.replace(request, approvals={}, approve_all=False)),
            parent=around.parent,
            session=around.session,
            turn=around.turn,
            uid=around.uid,
        )
        return _decode_record(await self._port.request("store", "runs.begin", _encode(begin)))

    async def _conversation(self, record: RunRecord, around: Circumstances) -> Circumstances:
        begin = BeginTurn(turn=record.turn, prompt=record.summary.task, session=record.summary.session)
        body = await self._port.request("store", "sessions.begin", _encode(begin))
        messages = _decode_conversation(body).messages
        return msgspec.structs.replace(
            around, history=messages[:-1], session=record.summary.session, turn=record.turn
        )

    def keep(self, recording: Coroutine[object, object, None]) -> None:
        """Records in a task that outlives the run."""
        task = asyncio.ensure_future(recording)
        self._recordings.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._recordings.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("the end of a run could not be recorded: %s", error)

    # --- what a run needs --------------------------------------------------------------------------------------------

    def agent(self, name: str) -> Agent:
        return self._crew.get(name)

    def team(self) -> list[Agent]:
        return self._crew.team

    def budget(self, request: RunRequest, agent: Agent) -> Budget:
        settings = self._settings
        return Budget(
            max_steps=request.max_steps or agent.max_steps or settings.max_steps,
            max_tokens=request.max_tokens or settings.max_tokens,
            max_seconds=request.max_seconds or settings.timeout_s,
        )

    def is_small(self, model: str) -> bool:
        """Whether the model is one that must be kept short."""
        return (model or self._default_model).startswith(f"{LOCAL}/")

    async def choose(self, agent: Agent) -> tuple[list[ToolInfo], list[str]]:
        return await self._toolbox.choose(agent.tools)

    async def call(self, tool: ToolInfo, given: str, *, approved: bool, timeout: float | None) -> ToolOutcome:
        return await self._toolbox.call(tool, given, approved=approved, timeout=timeout)

    async def write(self, verb: str, record: WriteStep | EndRun | FinishTurn) -> None:
        await self._port.request("store", verb, _encode(record))

    async def complete(self, ask: Ask, request: RunRequest, model: str, timeout: float | None) -> Completion:
        """The model's reply, held to the schema where the provider can do that."""
        schema = None if model in self._unconstrained else ask.schema
        wanted = CompletionRequest(
            messages=ask.messages, model=model, options=request.options, schema=schema, stream=False
        )
        try:
            return await self._complete(wanted, timeout)
        except BadRequest as error:
            if type(error) is not BadRequest or schema is None:
                raise
        completion = await self._complete(msgspec.structs.replace(wanted, schema=None), timeout)
        self._unconstrained.add(model)  # only now: it was not something else that was wrong
        return completion

    async def _complete(self, wanted: CompletionRequest, timeout: float | None) -> Completion:
        body = await self._port.request("llm", "complete", _encode(wanted), timeout=timeout)
        return _decode_completion(body)


def checked(request: RunRequest) -> RunRequest:
    """Raises for a request that nothing need be recorded of."""
    if not 1 <= len(request.run) <= 64:
        raise BadRequest("a run must be named, by at most 64 characters")
    if request.agent and not request.task.strip():
        raise UsageError("the task is empty", advice="say what is to be done")
    return request


def _fixed(first: RunRequest) -> dict[str, object]:
    """What a run keeps from when it was asked for first."""
    told = msgspec.structs.asdict(first)
    return {key: value for key, value in told.items() if key not in ("approvals", "approve_all", "run")}


def _recorded(record: RunRecord) -> RunReply:
    """The reply that was given before."""
    summary = record.summary
    return RunReply(
        run=summary.id,
        agent=summary.agent,
        state=summary.state,
        answer=summary.answer,
        steps=summary.steps,
        finish_reason=summary.finish_reason,
        usage=Usage(summary.input_tokens, summary.output_tokens),
        model=summary.model,
        session=summary.session,
        answered_by=summary.answered_by,
    )
