"""From structs to the text that a person reads. Pure: the clock, the width and the colours are arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING

from fusionctl.text import taken

if TYPE_CHECKING:
    from fusiond.protocol.batches import Job, JobDetail, Progress
    from fusiond.protocol.control import ActorHealth, Event, Health, KillReport, LastExit
    from fusiond.protocol.sessions import SessionDetail, SessionSummary

Paint = Callable[[str, str], str]
"""`paint(text, style)`: the text in a style of `STYLES`."""

STYLES = {"good": "32", "bad": "31", "warn": "33", "faint": "2", "strong": "1"}

_STATES = {
    "ready": ("✅", "active", "good"),
    "standby": ("💤", "standby", "good"),
    "starting": ("⏳", "starting", "warn"),
    "draining": ("⏳", "draining", "warn"),
    "backoff": ("🔁", "backoff", "bad"),
    "failed": ("❌", "failed", "bad"),
    "stopped": ("⛔", "stopped", "faint"),
}
"""State → its sign, its word, its style."""


def plain(text: str, _style: str) -> str:
    """Paints nothing."""
    return text


def coloured(text: str, style: str) -> str:
    """Paints for a terminal."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if text else text


# --- quantities ---------------------------------------------------------------------------------------------


def span(seconds: float) -> str:
    """A time span in its one or two largest units: `0.4 s`, `12 s`, `3 min`, `2 h 5 min`, `4 d 1 h`."""
    if seconds < 1:
        return f"{max(seconds, 0):.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def milliseconds(value: float) -> str:
    """`0.4 ms`, `7 ms`, `2.1 s`."""
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    return f"{value:.1f} ms" if value < 1 else f"{value:.0f} ms"


def size(count: int) -> str:
    """Bytes in decimal units: `14 MB`."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def ago(time: str, now: datetime) -> str:
    """How long ago an ISO 8601 time is, "just now" for one that lies ahead."""
    seconds = (now - datetime.fromisoformat(time)).total_seconds()
    return f"{span(seconds)} ago" if seconds > 0 else "just now"


# --- health -------------------------------------------------------------------------------------------------


def health(tree: Health, now: datetime, paint: Paint = plain, columns: int = 0) -> list[str]:
    """The tree, a line for each process; what happened last has one of its own where it exceeds `columns`."""
    return [_summary(tree, paint), *chain.from_iterable(_actors(tree, now, paint, columns).values())]


def health_again(tree: Health, before: Health | None, now: datetime, paint: Paint, columns: int) -> list[str]:
    """The same for a live view: what differs from `before` has a mark in the margin."""
    then = {actor.name: _standing(actor) for actor in before.actors} if before is not None else {}
    lines = [f"  {_summary(tree, paint)}"]
    for actor, shown in zip(tree.actors, _actors(tree, now, paint, columns - 2).values(), strict=True):
        changed = before is not None and then.get(actor.name) != _standing(actor)
        first, *rest = shown
        lines += [paint("▶ ", "strong") + first if changed else f"  {first}", *(f"  {line}" for line in rest)]
    return lines


def _standing(actor: ActorHealth) -> tuple[object, ...]:
    """What counts as a change of an actor."""
    return actor.pid, actor.state, actor.generation, actor.restarts


def _summary(tree: Health, paint: Paint) -> str:
    style = {"healthy": "good", "degraded": "bad"}.get(tree.status, "warn")
    return (
        f"{paint(tree.status, style)}  fusiond {tree.version}  pid {tree.supervisor.pid}"
        f"  up {span(tree.supervisor.uptime_s)}  {count(len(tree.actors), 'process', 'processes')}"
    )


def _actors(tree: Health, now: datetime, paint: Paint, columns: int) -> dict[str, list[str]]:
    """Each actor's lines by its name."""
    width = max((len(actor.name) for actor in tree.actors), default=0)
    return {actor.name: _actor(actor, width, now, paint, columns) for actor in tree.actors}


def _actor(actor: ActorHealth, width: int, now: datetime, paint: Paint, columns: int) -> list[str]:
    sign, word, style = _STATES[actor.state]
    seen = "" if actor.last_seen_ms is None else f"last seen {milliseconds(actor.last_seen_ms)} ago"
    parts = [
        f"{sign} {actor.name:<{width}}",
        paint(f"{word:<7}", style),
        f"pid {actor.pid if actor.pid is not None else '–':<5}",
        f"{seen:<20}",
        f"restarts {actor.restarts:<2}",
        "" if actor.uptime_s is None else f"up {span(actor.uptime_s):<7}",
        "" if actor.rss_bytes is None else f"{size(actor.rss_bytes):>6}",
        f"busy {actor.in_flight}" if actor.in_flight else "",
        _lag(actor.loop_lag_ms),
    ]
    line = "  ".join(part for part in parts if part).rstrip()
    history = _history(actor, now)
    if not history:
        return [line]
    painted = paint(history, "faint" if actor.state in ("ready", "standby") else style)
    if columns and taken(line) + 2 + len(history) > columns:
        return [line, f"   {painted}"]
    return [f"{line}  {painted}"]


def _lag(lag_ms: float | None) -> str:
    """How late the actor's event loop is, where that is worth knowing."""
    return f"loop late {milliseconds(lag_ms)}" if lag_ms is not None and lag_ms > 50 else ""


def _history(actor: ActorHealth, now: datetime) -> str:
    """What happened last, `replaced 3 s ago: killed by SIGKILL, ready again in 7 ms`, or why it is away."""
    last = actor.last_exit
    if last is None:
        return ""
    if actor.state in ("ready", "standby"):
        again = f", ready again in {milliseconds(last.recovered_ms)}" if last.recovered_ms is not None else ""
        return f"replaced {ago(last.at, now)}: {cause(last)}{again}"
    if actor.state == "stopped":
        return f"{cause(last)}, {ago(last.at, now)}"
    return f"{cause(last)} ({ago(last.at, now)}); see: fusionctl logs {actor.name}"


def cause(last: LastExit) -> str:
    """Why a process ended, in words."""
    detail = last.detail
    match last.reason:
        case "signal":
            return f"killed by {detail}"
        case "exit":
            return f"exited: {detail}" if detail else "exited"
        case "hung":
            return f"hung: {detail}" if detail else "hung"
        case "stuck":
            return f"stuck on a cancelled request{f': {detail}' if detail else ''}"
        case "start_timeout":
            return f"did not start in time{f': {detail}' if detail else ''}"
        case "rss":
            return f"over its memory limit{f': {detail}' if detail else ''}"
        case "reload":
            return "configuration changed"
        case "restart":
            return "restarted by hand"


def count(number: int, one: str, many: str) -> str:
    """`1 process`, `3 processes`."""
    return f"{number} {one if number == 1 else many}"


# --- a recovery ---------------------------------------------------------------------------------------------


def recovery(report: KillReport, paint: Paint = plain) -> list[str]:
    """A small timeline: each moment with its time and a bar as long as the way to it."""
    lines = [f"{report.actor}: {report.signal} sent to pid {report.old_pid}"]
    moments = [
        (report.noticed_ms, "noticed"),
        (report.respawned_ms, f"replaced by pid {report.new_pid}"),
        (report.ready_ms, "ready again"),
    ]
    known = [(at, what) for at, what in moments if at is not None]
    whole = max((at for at, _ in known), default=0) or 1
    for at, what in known:
        bar = "━" * max(1, round(24 * at / whole))
        lines.append(f"  {at:>8.1f} ms  {paint(f'{bar:<24}', 'good')}  {what}")
    if report.noticed_ms is None:
        lines.append("  it lives on: this signal did not end it")
    elif report.ready_ms is None:
        lines.append(
            paint("  its replacement is not ready yet; watch it: fusionctl health --watch 1", "warn")
        )
    held = report.requests
    if held.redispatched or held.resumed or held.failed:
        fates = f"{held.redispatched} sent again, {held.resumed} continued, {held.failed} failed"
        lines.append(f"  requests it held: {fates}")
    return lines


# --- events -------------------------------------------------------------------------------------------------

_BAD = {"missed", "killed", "exited", "backed_off", "failed", "refused"}


def event(happened: Event, paint: Paint = plain) -> str:
    """One event in one line; times as recorded, in UTC."""
    style = "bad" if happened.kind in _BAD else "good"
    parts = [
        paint(happened.time, "faint"),
        f"{happened.actor:<12}",
        paint(f"{happened.kind:<10}", style),
        f"pid {happened.pid}" if happened.pid is not None else "",
        happened.detail,
        f"({milliseconds(happened.ms)})" if happened.ms is not None else "",
    ]
    return "  ".join(part for part in parts if part).rstrip()


# --- conversations ------------------------------------------------------------------------------------------


def sessions(found: Sequence[SessionSummary], now: datetime, paint: Paint = plain) -> list[str]:
    """A table of sessions, the newest first as they come."""
    ids = max((len(session.id) for session in found), default=0)
    models = max((len(session.model) for session in found), default=0)
    lines = []
    for session in found:
        id = paint(f"{session.id:<{ids}}", "strong")
        turns = count(session.turns, "turn", "turns")
        when = ago(session.updated, now)
        line = f"{id}  {when:<14}  {turns:<9}  {session.model:<{models}}  {one_line(session.title)}"
        lines.append(line.rstrip())
    return lines


def progress(now: Progress) -> str:
    """How far a job has come, on one line."""
    words = [f"{now.completed + now.failed:,}/{now.total:,}"]
    if now.failed:
        words.append(f"{now.failed:,} failed")
    if now.rate:
        words.append(f"{now.rate:.1f}/s" if now.rate < 100 else f"{now.rate:,.0f}/s")
    if now.input_tokens or now.output_tokens:
        words.append(f"tokens {now.input_tokens:,} in {now.output_tokens:,} out")
    if now.left_s is not None:
        words.append(f"{span(now.left_s)} left")
    if now.reason:
        words.append(f"waiting: {one_line(now.reason)}")
    return "  ".join(words)


def jobs(found: Sequence[Job], now: datetime, paint: Paint = plain) -> list[str]:
    """A line for each job."""
    width = max((len(job.id) for job in found), default=0)
    return [
        f"{paint(job.id.ljust(width), 'strong')}  {_job_words(job)}  {ago(job.created, now)}" for job in found
    ]


def job_line(job: Job) -> str:
    return f"{job.id}  {_job_words(job)}"


def _job_words(job: Job) -> str:
    counts = job.request_counts
    words = [job.state.replace("_", " "), f"{counts.completed + counts.failed:,}/{counts.total:,}"]
    if counts.failed:
        words.append(f"{counts.failed:,} failed")
    words.append(one_line(job.source))
    if job.reason:
        words.append(one_line(job.reason))
    return "  ".join(words)


def job(found: JobDetail, now: datetime, paint: Paint = plain) -> list[str]:
    """A job with its figures."""
    latency = found.latency_ms
    times = [
        f"{name} {milliseconds(value)}"
        for name, value in (("p50", latency.p50), ("p90", latency.p90), ("p99", latency.p99))
        if value is not None
    ]
    lines = [
        f"{paint(found.id, 'strong')}  {_job_words(found)}",
        f"  made {ago(found.created, now)}" + (f", ended {ago(found.ended, now)}" if found.ended else ""),
        f"  tokens: {found.input_tokens:,} in, {found.output_tokens:,} out",
        f"  asked again after an error: {found.retries:,}; perhaps asked twice: {found.asked_twice:,}",
    ]
    return [*lines, f"  latency: {', '.join(times)}"] if times else lines


def one_line(text: str) -> str:
    return " ".join(text.split())


def conversation(session: SessionDetail, paint: Paint = plain) -> list[str]:
    """A conversation to read."""
    lines = [paint(f"{session.id}  {session.model}  {session.created}", "faint")]
    for message in session.messages:
        cut = "" if message.complete else "  (cut short)"
        lines += ["", paint(f"{message.role}{cut}", "strong"), message.content]
    return lines


def markdown(session: SessionDetail) -> list[str]:
    """A conversation as a Markdown document."""
    lines = [f"# {one_line(session.title)}", "", f"{session.model}, {session.created}"]
    for message in session.messages:
        cut = "" if message.complete else " (cut short)"
        lines += ["", f"## {message.role}{cut}", "", message.content]
    return lines
