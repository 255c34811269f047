"""Bodies in the shape of OpenAI's API, for providers that speak another one."""

from __future__ import annotations

from typing import Any

import msgspec

from fusiond.errors import BadRequest
from fusiond.protocol.chat import Completion, CompletionRequest, Message, Relayed, Role

COMPLETIONS = "/v1/chat/completions"
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


def from_openai(url: str, model: str, body: bytes) -> CompletionRequest:
    """What a body for Chat Completions asks. Raises BadRequest for what only OpenAI's own API could answer."""
    if url != COMPLETIONS:
        raise BadRequest(f"this provider answers {COMPLETIONS} only, not {url}")
    options: dict[str, Any] = msgspec.json.decode(body)
    options.pop("model", None)
    options.pop("stream", None)
    messages = [_message(each) for each in options.pop("messages", None) or ()]
    schema = None
    if (form := options.pop("response_format", None)) is not None:
        if not isinstance(form, dict) or form.get("type") != "json_schema":
            raise BadRequest("of response_format this provider knows json_schema only")
        schema = form.get("json_schema", {}).get("schema")
    if (limit := options.pop("max_completion_tokens", None)) is not None:
        options["max_tokens"] = limit
    return CompletionRequest(messages=messages, model=model, options=options, schema=schema, stream=False)


def _message(given: Any) -> Message:
    role = _ROLES.get(given.get("role", "")) if isinstance(given, dict) else None
    if role is None:
        raise BadRequest(f"this provider takes messages of {', '.join(_ROLES)} only")
    content = given.get("content")
    if isinstance(content, list):
        parts = [str(part["text"]) for part in content if isinstance(part, dict) and "text" in part]
        content = "".join(parts) if len(parts) == len(content) else None
    if not isinstance(content, str):
        raise BadRequest("this provider takes messages of text only")
    return Message(role, content)


def as_openai(completion: Completion) -> Relayed:
    """The completion as Chat Completions would have replied."""
    usage = completion.usage
    counted = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
    if usage.input_tokens is not None and usage.output_tokens is not None:
        counted["total_tokens"] = usage.input_tokens + usage.output_tokens
    message = {"role": "assistant", "content": completion.text}
    body = {
        "object": "chat.completion",
        "model": completion.model,
        "choices": [{"index": 0, "message": message, "finish_reason": completion.finish_reason}],
        "usage": counted,
    }
    return Relayed(status=200, request="", body=msgspec.json.encode(body), usage=usage)
