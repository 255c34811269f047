"""What a model decides in a step: the schemas that it is held to, and the reading of what it really says.

| kind | decision |
|---|---|
| react | `{thought, action: {tool, input} or null, is_final, final_answer}` |
| supervisor | `{thought, agent_to_invoke, agent_task, is_final, final_answer}` |
| router | `{agent_name, reasoning}` |

Not every provider can be held to a schema, and not every model knows where JSON ends. So fences, words around the
object, trailing commas, raw newlines and the usual other names of keys are taken as they are meant. What holds no JSON
at all is an answer (`Words`); what might have been a decision and is none is `Malformed`, with what was wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from fusiond.agents.definition import Kind
from fusiond.protocol.tools import ToolInfo

_BRIEF, _BRIEF_ANSWER = 300, 2000
"""Characters of a thought and of an answer, where they are bounded."""


class Act(msgspec.Struct, frozen=True):
    """Use `target`, a tool or an agent. `input`: a tool's arguments, or an agent's task."""

    thought: str
    target: str
    input: dict[str, Any] | str


class Final(msgspec.Struct, frozen=True):
    """The answer."""

    thought: str
    answer: str


class Words(msgspec.Struct, frozen=True):
    """No JSON: a direct answer."""

    text: str


class Malformed(msgspec.Struct, frozen=True):
    """`why`: in words that the model can act on."""

    why: str


Decision = Act | Final | Words | Malformed

# --- schemas ---------------------------------------------------------------------------------------------------------


def schema(
    kind: Kind, tools: Sequence[ToolInfo], agents: Iterable[str], *, brief: bool = False
) -> dict[str, Any]:
    """The JSON schema of a decision.

    `brief`: for the embedded model, which never ends a text by itself and fills in whatever it may: texts are bounded,
    and an action and an answer exclude each other. Providers elsewhere want a plain object at the root.
    """
    text: dict[str, Any] = {"type": "string", "maxLength": _BRIEF} if brief else {"type": "string"}
    if kind == "router":
        return _object(agent_name={"type": "string", "enum": sorted(agents)}, reasoning=text)
    answer: dict[str, Any] = {"type": "string", "maxLength": _BRIEF_ANSWER} if brief else {"type": "string"}
    if kind == "supervisor":
        act = {"agent_to_invoke": {"type": "string", "enum": sorted(agents)}, "agent_task": text}
    else:
        actions = [_object(tool={"const": tool.name}, input=_input(tool.parameters)) for tool in tools]
        act = {"action": {"anyOf": actions}} if actions else {}
    none: dict[str, Any] = {"type": "null"}
    if not brief:
        either = {key: {"anyOf": [value, none]} for key, value in act.items()}
        return _object(
            thought=text, **either, is_final={"type": "boolean"}, final_answer={"anyOf": [answer, none]}
        )
    acts = _object(thought=text, **act, is_final={"const": False}, final_answer=none)
    ends = _object(thought=text, **dict.fromkeys(act, none), is_final={"const": True}, final_answer=answer)
    return {"anyOf": [acts, ends]} if act else ends


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _input(parameters: dict[str, Any]) -> dict[str, Any]:
    """The tool's own schema; one that refers to definitions cannot stand inside another."""
    return parameters if "$ref" not in json.dumps(parameters) else {"type": "object"}


# --- reading ---------------------------------------------------------------------------------------------------------

_NAMES: Mapping[str, tuple[str, ...]] = {
    "thought": ("thought", "thoughts", "reasoning", "thinking"),
    "action": ("action", "tool_call", "function_call"),
    "tool": ("tool", "tool_name", "name", "function"),
    "input": ("input", "tool_input", "action_input", "arguments", "args", "parameters"),
    "agent": ("agent_to_invoke", "agent_name", "agent"),
    "task": ("agent_task", "task"),
    "final_answer": ("final_answer", "answer", "final"),
}


def read(kind: Kind, said: str) -> Decision:
    """What the model means by `said`."""
    if "{" not in said:
        return Words(said.strip()) if said.strip() else Malformed("your reply was empty")
    found = _objects(said)
    if not found:
        return Malformed("your reply holds no complete JSON object")
    for document in found:
        decision = _decision(kind, document)
        if not isinstance(decision, Malformed):
            return decision
    return _decision(kind, found[0])


def _decision(kind: Kind, document: Mapping[str, Any]) -> Decision:
    thought = _text(_of(document, "thought"))
    if kind == "router":
        chosen = _text(_of(document, "agent"))
        return Act(thought, chosen, "") if chosen else Malformed('"agent_name" is missing')
    answer = _of(document, "final_answer")
    final = document.get("is_final") in (True, "true", 1)
    if final and answer not in (None, ""):
        return Final(thought, _text(answer))
    act = _agent_call(document, thought) if kind == "supervisor" else _tool_call(document, thought)
    if act is not None and not final:
        return act
    if answer not in (None, ""):
        return Final(thought, _text(answer))
    if final:
        return Malformed('"is_final" is true, but "final_answer" holds no answer')
    wanted = (
        '"agent_to_invoke" with "agent_task"' if kind == "supervisor" else '"action" with "tool" and "input"'
    )
    return Malformed(f'there must be either {wanted}, or "is_final": true with "final_answer"')


def _tool_call(document: Mapping[str, Any], thought: str) -> Decision | None:
    action = _of(document, "action")
    call: Mapping[str, Any] = document
    if isinstance(action, dict):
        call = action
    elif isinstance(action, str) and action:  # the tool's name, its input beside it
        call = {**document, "tool": action}
    tool = _of(call, "tool")
    if isinstance(tool, dict):  # OpenAI's {"function": {"name", "arguments"}}
        call, tool = tool, tool.get("name")
    if not isinstance(tool, str) or not tool:
        return None
    given = _of(call, "input")
    if isinstance(given, str) and given.strip().startswith("{"):
        given = next(iter(_objects(given)), given)
    if given is None:
        given = {}
    if not isinstance(given, dict):
        return Malformed('"input" must be an object with the tool\'s arguments')
    return Act(thought, tool.strip(), given)


def _agent_call(document: Mapping[str, Any], thought: str) -> Decision | None:
    agent = _of(document, "agent")
    if not isinstance(agent, str) or not agent:
        return None
    task = _text(_of(document, "task")).strip()
    return Act(thought, agent.strip(), task) if task else Malformed('"agent_task" says nothing')


def _of(document: Mapping[str, Any], what: str) -> Any:
    return next((document[name] for name in _NAMES[what] if document.get(name) is not None), None)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_MOST_TRIES = 32


def _objects(text: str) -> list[dict[str, Any]]:
    """The JSON objects in `text` that are in no other, leniently read; of a text full of braces not all."""
    found: list[dict[str, Any]] = []
    at = text.find("{")
    for _ in range(_MOST_TRIES):
        if at < 0:
            break
        end = _end(text, at)
        document = _load(text[at:end]) if end else None
        if document is not None:
            found.append(document)
        at = text.find("{", at + 1 if document is None else end)
    return found


def _end(text: str, start: int) -> int:
    """Where the object that begins at `start` ends, 0 if it does not."""
    depth = 0
    for match in re.compile(r'"(?:[^"\\]|\\.)*"|[{}]', re.DOTALL).finditer(text, start):
        if match[0] == "{":
            depth += 1
        elif match[0] == "}":
            depth -= 1
            if depth == 0:
                return match.end()
    return 0


_TRAILING = re.compile(r'("(?:[^"\\]|\\.)*")|,(\s*[}\]])', re.DOTALL)
_PYTHON = re.compile(r'("(?:[^"\\]|\\.)*")|\b(True|False|None)\b', re.DOTALL)
_JSON = {"True": "true", "False": "false", "None": "null"}


def _load(text: str) -> dict[str, Any] | None:
    for attempt in (text, _mended(text)):
        try:
            document = json.loads(attempt, strict=False)
        except (ValueError, RecursionError):
            continue
        return document if isinstance(document, dict) else None
    return None


def _mended(text: str) -> str:
    text = _TRAILING.sub(lambda match: match[1] or match[2], text)
    return _PYTHON.sub(lambda match: match[1] or _JSON[match[2]], text)
