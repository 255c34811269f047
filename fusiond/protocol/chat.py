"""Conversations and completions: the bodies of the agent's verb `chat` and of the llm actor's verbs.

`chat` (service "agent"):   ChatRequest       → ChatChunk*       → ChatReply
`complete` (service "llm"): CompletionRequest → CompletionChunk* → Completion
`relay` (service "llm"):    RelayRequest      → Relayed
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fusiond.protocol.approvals import ApprovalAsk, Verdict

Role = Literal["system", "user", "assistant"]


class Message(msgspec.Struct, frozen=True):
    """One message of a conversation."""

    role: Role
    content: str


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the provider counted them; None where it did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Asks a model to go on with `messages`.

    `model`: `provider/name`, "" for the configured default. `options` go to the provider as they are (temperature,
    max_tokens, …). `prefix`: text of the answer that the asker already holds; the answer continues it.
    `schema`: a JSON schema that the answer must satisfy.
    """

    messages: list[Message]
    model: str = ""
    options: dict[str, Any] = {}
    schema: dict[str, Any] | None = None
    stream: bool = True
    prefix: str = ""


class CompletionChunk(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of the answer. `reset`: what came before is void, the answer begins anew with this piece."""

    text: str
    reset: bool = False


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer, `prefix` and chunks included. `asked`: how often the provider was asked for it."""

    text: str
    model: str
    finish_reason: str | None = None
    usage: Usage = Usage()
    asked: int = 1


class RelayRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Posts a body made for OpenAI's API, to be answered whole: once, and as it is, but for its model's name.

    `url`: as in OpenAI's batch files, `/v1/chat/completions`. `body`: a JSON object; its `model` may be
    `provider/name`, or a name of the provider in `model`, or missing. `model`: `provider/name`, "" for the configured
    default.
    """

    url: str
    body: bytes
    model: str = ""


class Relayed(msgspec.Struct, frozen=True, kw_only=True):
    """The reply as it came, in the shape of OpenAI's API. `request`: the provider's own id for it, "" for none."""

    status: int
    request: str
    body: bytes
    usage: Usage = Usage()


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One message to a conversation.

    `session`: its id; "" makes a new one. `last`: continue the session used last. `system` replaces the session's
    system prompt from here on; None keeps it. `turn`: names the turn, so that it is recorded once however often it is
    asked; "" stands for the request's own id. `prefix`, `asked`: where an earlier try of the same turn broke off: the
    text so far, and how often a model had been asked.
    `agent`: who is to answer; the turn is then a run of that agent, named by `turn`, and `approvals` and `approve_all`
    are as for runs.
    """

    prompt: str
    system: str | None = None
    model: str = ""
    session: str = ""
    last: bool = False
    agent: str = ""
    options: dict[str, Any] = {}
    schema: dict[str, Any] | None = None
    turn: str = ""
    prefix: str = ""
    asked: int = 0
    approvals: dict[str, Verdict] = {}
    approve_all: bool = False


class ChatChunk(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of the answer. `session` comes with the first. `reset`: what came before is void.

    `asked`: how often a model has been asked so far; the asker hands it back as `ChatRequest.asked` when it continues.
    `note`: news of an agent's doing, no part of the answer.
    """

    text: str
    reset: bool = False
    session: str = ""
    asked: int = 1
    note: str = ""


class ChatReply(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer, recorded in the session. `attempts`: how often a model was asked; 1 if nothing went wrong.

    `approval`: there is no answer yet, a person must be asked first. `left_out`: how many messages of the conversation
    did not fit into the model's context.
    """

    text: str
    model: str
    session: str
    finish_reason: str | None = None
    usage: Usage = Usage()
    attempts: int = 1
    approval: ApprovalAsk | None = None
    left_out: int = 0
