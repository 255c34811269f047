"""Agents, tools and MCP servers, and runs, as text for a person. Pure, like `render`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fusionctl.render import Paint, ago, count, milliseconds, one_line, plain, size
from fusionctl.text import safe

if TYPE_CHECKING:
    from fusiond.protocol.agents import AgentDetail, AgentInfo, RunDetail, RunEvent, RunSummary, Step
    from fusiond.protocol.tools import McpServerDetail, McpServerInfo, ToolDetail, ToolInfo

_SHOWN = 160  # characters of a line that only reminds
_STATES = {"completed": "good", "running": "good", "waiting": "warn", "interrupted": "warn", "failed": "bad"}


def _short(text: str, most: int = _SHOWN) -> str:
    line = safe(one_line(text))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _table(rows: Sequence[tuple[str, ...]], paint: Paint) -> list[str]:
    """Columns as wide as they must be; the first stands out."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    lines = []
    for first, *rest in rows:
        cells = [cell.ljust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([paint(first.ljust(widths[0]), "strong"), *cells]).rstrip())
    return lines


# --- tools --------------------------------------------------------------------------------------------------


def tools(found: Sequence[ToolInfo], paint: Paint = plain) -> list[str]:
    """A line for each tool; what cannot be used, and why, after them."""
    good = [tool for tool in found if not tool.problem]
    rows = [(tool.name, tool.approval, tool.source, _short(tool.description, 80)) for tool in good]
    bad = [
        f"{paint(tool.name, 'bad')}  {tool.source}: {_short(tool.problem)}" for tool in found if tool.problem
    ]
    return _table(rows, paint) + bad


def tool(found: ToolDetail, paint: Paint = plain) -> list[str]:
    lines = [f"{paint(found.name, 'strong')}  {found.source}  approval: {found.approval}"]
    lines += ["", *map(safe, found.description.splitlines())]
    required = found.parameters.get("required", [])
    for name, schema in found.parameters.get("properties", {}).items():
        must = "" if name in required else " (optional)"
        text = _short(str(schema.get("description", ""))) if isinstance(schema, dict) else ""
        lines.append(f"  {name}: {_kind(schema)}{must}{f'  {text}' if text else ''}")
    limits = f"{found.timeout_s:g} s, {found.memory_mb} MB, {size(found.max_output_bytes)} of output"
    lines += ["", f"limits: {limits}", f"isolation: {found.isolation}"]
    return [*lines, paint(f"problem: {found.problem}", "bad")] if found.problem else lines


def _kind(schema: Any) -> str:
    """A JSON schema's type in a word or two."""
    if not isinstance(schema, dict):
        return "any"
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(map(_kind, schema["anyOf"])))
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    kind = schema.get("type", "any")
    return " | ".join(kind) if isinstance(kind, list) else str(kind)


# --- MCP servers --------------------------------------------------------------------------------------------


def servers(found: Sequence[McpServerInfo], paint: Paint = plain) -> list[str]:
    rows = [
        (one.name, one.transport, _short(one.state), count(len(one.tools), "tool", "tools")) for one in found
    ]
    return _table(rows, paint)


def server(found: McpServerDetail, paint: Paint = plain) -> list[str]:
    pid = f"  pid {found.pid}" if found.pid else ""
    lines = [f"{paint(found.name, 'strong')}  {found.state}  {found.transport}{pid}"]
    lines += [f"  {_short(found.server)}, MCP {found.protocol}"]
    if found.instructions:
        lines += [f"  {_short(found.instructions)}"]
    lines += [f"  tool      {name}" for name in found.tools]
    lines += [f"  resource  {_short(f'{one.uri}  {one.description or one.name}')}" for one in found.resources]
    for one in found.prompts:
        arguments = ", ".join(one.arguments)
        lines.append(f"  prompt    {_short(f'{one.name}({arguments})  {one.description}')}")
    return lines


# --- agents and runs ----------------------------------------------------------------------------------------


def agents(found: Sequence[AgentInfo], paint: Paint = plain) -> list[str]:
    rows = [
        (one.name, one.source, _short(one.description, 80), _short(", ".join(one.tools), 60))
        for one in found
        if not one.problem
    ]
    bad = [f"{paint(one.name, 'bad')}  {one.source}: {_short(one.problem)}" for one in found if one.problem]
    return _table(rows, paint) + bad


def agent(found: AgentDetail, paint: Paint = plain) -> list[str]:
    lines = [f"{paint(found.name, 'strong')}  {found.source}", f"  {_short(found.description)}"]
    lines += [f"  tools: {', '.join(found.tools) or 'none'}"]
    lines += [f"  model: {found.model}"] if found.model else []
    lines += [f"  at most {found.max_steps} steps"] if found.max_steps else []
    return [*lines, "", *map(safe, found.system_prompt.splitlines())] if found.system_prompt else lines


def runs(found: Sequence[RunSummary], now: datetime, paint: Paint = plain) -> list[str]:
    """The newest first."""
    return [
        f"{paint(one.id[:12], 'strong')}  {paint(f'{one.state:<11}', _STATES.get(one.state, 'faint'))}"
        f"  {one.agent:<12}  {count(one.steps, 'step', 'steps'):<8}  {ago(one.updated, now):<14}"
        f"  {_short(one.error or one.task, 80)}".rstrip()
        for one in found
    ]


def trace(found: RunDetail, paint: Paint = plain) -> list[str]:
    """A run to read."""
    tokens = ""
    if found.input_tokens is not None or found.output_tokens is not None:
        tokens = f"  tokens {found.input_tokens or 0:,} in {found.output_tokens or 0:,} out"
    lines = [paint(f"{found.id}  {found.agent}  {found.state}  {found.model}{tokens}", "faint")]
    lines += [f"{paint('task', 'strong')}  {safe(found.task)}"]
    for step in found.trace:
        lines += ["", *_step(step, paint, whole=True)]
    if found.answer:
        lines += ["", f"{paint('answer', 'strong')} ({found.finish_reason})  {safe(found.answer)}"]
    if found.error:
        lines += ["", paint(f"error: {safe(found.error)}", "bad")]
    return lines


def event(happened: RunEvent, paint: Paint = plain) -> list[str]:
    """What happened in a run, as it happens; of a run that another one called further to the right."""
    indent = "  " * happened.run.count(".")
    if happened.step is None:
        return [f"{indent}{happened.agent}: {safe(happened.text)}"]
    return [f"{indent}{line}" for line in _step(happened.step, paint, whole=False, agent=happened.agent)]


def news(happened: RunEvent) -> str:
    """One quiet line, "" for what is not worth one."""
    if happened.step is None:
        return _short(f"{happened.agent}: {happened.text}")
    if happened.step.state == "done":
        return ""
    return _short(f"{happened.agent}: {happened.step.tool} {happened.step.input}", 100)


def _step(step: Step, paint: Paint, *, whole: bool, agent: str = "") -> list[str]:
    """`whole`: all of a step; else what is new in its state."""
    who = f"{agent} " if agent else ""
    decided = [
        f"{paint(f'{who}{step.n}. thought', 'strong')}  {safe(step.thought)}  "
        + paint(f"({milliseconds(step.think_ms)}{_tokens(step)})", "faint"),
        f"   action  {step.tool} {safe(step.input)}",
    ]
    seen = [] if step.observation is None else step.observation.splitlines() or [""]
    observed = [f"   {step.kind or 'observation'}  {paint(f'({milliseconds(step.act_ms)})', 'faint')}"]
    observed += [f"   | {safe(line)}" for line in seen]
    if step.observation is None:
        return [*decided, paint(f"   {step.state}", "warn")] if whole else decided
    if whole or not step.act_ms:
        return [*decided, *observed]
    return [f"{paint(f'{who}{step.n}.', 'strong')}", *observed]


def _tokens(step: Step) -> str:
    if step.input_tokens is None and step.output_tokens is None:
        return ""
    return f", tokens {step.input_tokens or 0:,} in {step.output_tokens or 0:,} out"
