"""The agent actor: conversations, and runs of agents. History and record come from the store, answers from a model.

The prompt is recorded before a model is asked, the answer before the reply is sent. A stream that breaks is
continued from the text that has come so far. An answer cut short, by the person or by an error, is kept and
marked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TypeVar

import msgspec

from fusiond.actors.base import Actor, Call, Port, decoded
from fusiond.actors.crew import Crew
from fusiond.actors.run import Circumstances
from fusiond.actors.running import Runs, checked
from fusiond.agents.history import shorter
from fusiond.config.schema import AgentsSettings
from fusiond.errors import (
    MAX_DEATHS,
    BadRequest,
    Busy,
    ContextTooLong,
    Crashed,
    Interrupted,
    PoisonRequest,
    UsageError,
)
from fusiond.protocol.agents import AgentName, RunEvent, RunRequest
from fusiond.protocol.chat import (
    ChatChunk,
    ChatReply,
    ChatRequest,
    Completion,
    CompletionChunk,
    CompletionRequest,
    Message,
    Usage,
)
from fusiond.protocol.sessions import BeginTurn, Conversation, FinishTurn, TurnAnswer

log = logging.getLogger(__name__)

T = TypeVar("T")

_LONGEST_NAME = 64  # characters, twice a request's id in hex
_NOTE = 160  # characters of an input
_PARTING = 0.5  # seconds a cancelled call waits for its record; the record itself goes on

_encode = msgspec.msgpack.Encoder().encode
_decode_request = msgspec.msgpack.Decoder(ChatRequest).decode
_decode_conversation = msgspec.msgpack.Decoder(Conversation).decode
_decode_run = msgspec.msgpack.Decoder(RunRequest).decode
_decode_name = msgspec.msgpack.Decoder(AgentName).decode
_decode_chunk = msgspec.msgpack.Decoder(CompletionChunk).decode
_decode_completion = msgspec.msgpack.Decoder(Completion).decode


class AgentConfig(msgspec.Struct, frozen=True):
    """`model`: the default one. `settings`: `[agents]`. `folder`: where the configuration file is, and modules beside
    it; `changed`: when those were written last. `most_asks`: how often one call asks for an answer whose stream keeps
    breaking.
    """

    model: str = ""
    settings: AgentsSettings = AgentsSettings()
    folder: str = ""
    changed: list[int] = []
    most_asks: int = 10


class Telling:
    """An answer on its way: the text that the asker holds, kept in step with the chunks sent.

    `asked`: how often a model has been asked for it, by earlier tries of the same request too.
    """

    def __init__(self, call: Call, session: str, text: str, asked: int) -> None:
        self._call = call
        self._session = session
        self._introduced = False
        self.text = text
        self.asked = asked
        self.left_out = 0

    def news(self, event: RunEvent) -> None:
        """Tells what an agent does, beside the answer."""
        if note := _note(event):
            self._call.emit(_encode(ChatChunk(text="", note=note, asked=self.asked)))

    def piece(self, text: str, *, reset: bool = False) -> None:
        """Tells the next piece; with `reset` the answer begins anew with it."""
        if not text and not reset:
            return
        self.text = text if reset else self.text + text
        session = "" if self._introduced else self._session
        self._introduced = True
        self._call.emit(_encode(ChatChunk(text=text, reset=reset, session=session, asked=self.asked)))

    def settle(self, whole: str) -> None:
        """Tells what is missing of the whole answer, so that the chunks always add up to it."""
        if whole.startswith(self.text):
            self.piece(whole[len(self.text) :])
        else:
            self.piece(whole, reset=True)


class Agent(Actor):
    """Serves `chat`, `run`, `list` and `show`."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._most_asks = config.most_asks
        self._recordings: set[asyncio.Task[None]] = set()
        self._crew: Crew
        self._runs: Runs
        self.verbs = {"chat": self._chat, "run": self._run, "list": self._list, "show": self._show}

    async def setup(self, port: Port) -> None:
        self._port = port
        self._crew = Crew(self._config.settings, self._config.folder)
        self._runs = Runs(port, self._crew, self._config.settings, self._config.model)

    async def teardown(self) -> None:
        if self._recordings:
            await asyncio.wait(self._recordings)
        await self._runs.settle()

    def _list(self, _call: Call) -> bytes:
        return _encode(self._crew.infos())

    def _show(self, call: Call) -> bytes:
        return _encode(self._crew.detail(decoded(_decode_name, call).name))

    async def _run(self, call: Call) -> bytes:
        def watch(event: RunEvent) -> None:
            call.emit(_encode(event))

        around = Circumstances(uid=call.uid, watch=watch)
        return _encode(await self._runs.run(checked(decoded(_decode_run, call)), around))

    async def _chat(self, call: Call) -> bytes:
        request = _checked(call)
        turn = request.turn or call.id.hex()
        conversation = await self._begin(call, request, turn)
        # every attempt of the router's but this one may have asked a model before its process died
        telling = Telling(call, conversation.session, request.prefix, request.asked + call.attempt - 1)
        answer = conversation.answer
        if answer is None and request.agent:
            return _encode(await self._answer_as_agent(call, request, turn, conversation, telling))
        if answer is None:
            answer = await self._answer(
                call, turn, _wanted(request, conversation), conversation.session, telling
            )
        else:
            telling.settle(answer.text)
        return _encode(_reply(conversation.session, answer, telling.left_out))

    async def _answer_as_agent(
        self, call: Call, request: ChatRequest, turn: str, conversation: Conversation, telling: Telling
    ) -> ChatReply:
        """The turn is a run of an agent."""
        *history, prompt = conversation.messages
        reply = await self._runs.run(
            RunRequest(
                run=turn,
                agent=request.agent,
                task=prompt.content,
                model=request.model,
                system=conversation.system or None,
                options=request.options,
                approvals=request.approvals,
                approve_all=request.approve_all,
            ),
            Circumstances(
                uid=call.uid,
                watch=telling.news,
                history=history,
                session=conversation.session,
                turn=turn,
            ),
        )
        telling.settle(reply.answer)
        return ChatReply(
            text=reply.answer,
            model=reply.model,
            session=conversation.session,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            attempts=max(1, telling.asked),
            approval=reply.approval,
            left_out=reply.left_out,
        )

    async def _begin(self, call: Call, request: ChatRequest, turn: str) -> Conversation:
        begin = BeginTurn(
            turn=turn,
            prompt=request.prompt,
            session=request.session,
            last=request.last,
            system=request.system,
            model=request.model,
            uid=call.uid,
        )
        body = await self._port.request("store", "sessions.begin", _encode(begin), timeout=call.remaining)
        return _decode_conversation(body)

    async def _answer(
        self, call: Call, turn: str, wanted: CompletionRequest, session: str, telling: Telling
    ) -> TurnAnswer:
        """Asks for the answer, tells it and records it."""
        try:
            completion = await self._complete(call, wanted, telling)
        except (Exception, asyncio.CancelledError):
            if telling.text:
                cut = TurnAnswer(
                    text=telling.text, model=wanted.model, attempts=telling.asked, complete=False
                )
                await self._part(self._record(FinishTurn(turn=turn, session=session, answer=cut)))
            raise
        telling.settle(completion.text)
        answer = TurnAnswer(
            text=completion.text,
            model=completion.model,
            finish_reason=completion.finish_reason,
            input_tokens=completion.usage.input_tokens,
            output_tokens=completion.usage.output_tokens,
            attempts=telling.asked,
        )
        # shielded: an answer that is whole is recorded even if the person leaves at this very moment
        await asyncio.shield(self._keep(self._record(FinishTurn(turn=turn, session=session, answer=answer))))
        return answer

    async def _complete(self, call: Call, wanted: CompletionRequest, telling: Telling) -> Completion:
        """The whole answer. A stream that breaks is continued from the text so far."""
        crashes = 0
        for _ in range(self._most_asks):
            telling.asked += 1
            ask = msgspec.structs.replace(wanted, prefix=telling.text)
            try:
                completion = await self._stream(call, ask, telling)
            except ContextTooLong:
                fewer = shorter(wanted.messages)
                if len(fewer) == len(wanted.messages):
                    raise
                telling.left_out += len(wanted.messages) - len(fewer)
                wanted = msgspec.structs.replace(wanted, messages=fewer)
                telling.asked -= 1  # it was refused, nothing was answered
                continue
            except Interrupted as error:
                crashes += isinstance(error, Crashed)
                if crashes == MAX_DEATHS:
                    raise PoisonRequest(f"this question ended {crashes} processes of llm") from error
            else:
                telling.asked += completion.asked - 1
                return completion
            log.info("the answer to %s broke off after %d characters", call.id.hex(), len(telling.text))
        raise Busy(
            f"the answer broke off {self._most_asks} times; what came is kept in the session",
            advice="try again; fusionctl health shows what keeps dying",
        )

    async def _stream(self, call: Call, ask: CompletionRequest, telling: Telling) -> Completion:
        stream = self._port.stream("llm", "complete", _encode(ask), timeout=call.remaining)
        try:
            async for chunk in stream:
                piece = _decode_chunk(chunk)
                telling.piece(piece.text, reset=piece.reset)
            return _decode_completion(await stream.result())
        except BaseException:
            stream.cancel()
            raise

    async def _record(self, turn: FinishTurn) -> None:
        await self._port.request("store", "sessions.finish", _encode(turn))

    def _keep(self, recording: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """`recording` as a task that outlives the call it belongs to."""
        task = asyncio.ensure_future(recording)
        self._recordings.add(task)
        task.add_done_callback(self._recorded)
        return task

    def _recorded(self, task: asyncio.Task[None]) -> None:
        self._recordings.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("an answer could not be recorded: %s", error)

    async def _part(self, recording: Coroutine[object, object, None]) -> None:
        """Records what came of an answer; its own failure must not hide why the answer was cut short."""
        await asyncio.wait({self._keep(recording)}, timeout=_PARTING)


_decode_config = msgspec.msgpack.Decoder(
    AgentConfig
).decode  # made before the fork: it takes half a millisecond


def create(config: bytes) -> Agent:
    """The agent for an `AgentConfig`."""
    return Agent(_decode_config(config))


def _note(event: RunEvent) -> str:
    """A line on what happens in a run; "" for what is not worth one."""
    if event.step is None:
        return event.text
    if event.step.state == "done":
        return ""
    given = " ".join(event.step.input.split())
    return f"{event.agent}: {event.step.tool} {given[:_NOTE] + '…' if len(given) > _NOTE else given}"


def _checked(call: Call) -> ChatRequest:
    """The request in `call`; raises for one that no model need be asked about."""
    request = decoded(_decode_request, call)
    if not request.prompt.strip():
        raise UsageError("the message is empty", advice="say something")
    if len(request.turn) > _LONGEST_NAME:
        raise BadRequest(f"the turn's name has {len(request.turn):,} characters, at most {_LONGEST_NAME} fit")
    return request


def _wanted(request: ChatRequest, conversation: Conversation) -> CompletionRequest:
    """What to ask a model: this request in its conversation, in the model it names or the one used last."""
    system = [Message("system", conversation.system)] if conversation.system else []
    return CompletionRequest(
        messages=system + conversation.messages,
        model=request.model or conversation.model,
        options=request.options,
        schema=request.schema,
    )


def _reply(session: str, answer: TurnAnswer, left_out: int) -> ChatReply:
    return ChatReply(
        text=answer.text,
        model=answer.model,
        session=session,
        finish_reason=answer.finish_reason,
        usage=Usage(answer.input_tokens, answer.output_tokens),
        attempts=answer.attempts,
        left_out=left_out,
    )
