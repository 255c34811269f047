from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fusionctl import render
from fusiond.protocol.control import (
    ActorHealth,
    Event,
    ExitReason,
    Health,
    KillReport,
    LastExit,
    Requests,
    State,
    SupervisorHealth,
)
from fusiond.protocol.sessions import SessionDetail, SessionSummary, StoredMessage

NOW = datetime(2026, 11, 22, 13, 0, 3, tzinfo=UTC)
AT = "2026-11-22T13:00:00.000Z"


def actor(
    name: str = "llm.0",
    state: State = "ready",
    pid: int | None = 4121,
    restarts: int = 0,
    last_exit: LastExit | None = None,
    in_flight: int = 0,
    lag: float = 0.1,
) -> ActorHealth:
    return ActorHealth(
        name=name,
        kind="llm",
        pid=pid,
        state=state,
        generation=1 + restarts,
        last_seen_ms=None if pid is None else 150.0,
        restarts=restarts,
        uptime_s=None if pid is None else 61.0,
        in_flight=in_flight,
        loop_lag_ms=lag,
        rss_bytes=41_200_000,
        cpu_percent=0.5,
        last_exit=last_exit,
    )


def tree(*actors: ActorHealth, status: str = "healthy") -> Health:
    return Health(
        status="healthy" if status == "healthy" else "degraded",
        version="1.2.3",
        supervisor=SupervisorHealth(pid=9, uptime_s=7200),
        actors=list(actors),
    )


def words(line: str) -> str:
    return " ".join(line.split())


def test_an_active_actor_is_shown_with_its_pid_and_when_it_was_last_seen() -> None:
    line = words(render.health(tree(actor()), NOW)[1])
    assert line.startswith("✅ llm.0 active pid 4121 last seen 150 ms ago restarts 0 ")
    assert "up 1 min" in line
    assert "41 MB" in line


def test_the_first_line_sums_up() -> None:
    first = words(render.health(tree(actor(), actor("store"), status="degraded"), NOW)[0])
    assert first == "degraded fusiond 1.2.3 pid 9 up 2 h 2 processes"


def test_a_replaced_actor_says_when_why_and_how_fast() -> None:
    replaced = actor(restarts=1, last_exit=LastExit("signal", "SIGKILL", AT, 7.1))
    line = render.health(tree(replaced), NOW)[1]
    assert line.endswith("replaced 3 s ago: killed by SIGKILL, ready again in 7 ms")


def test_what_happened_last_takes_a_line_of_its_own_where_it_does_not_fit() -> None:
    replaced = actor(restarts=1, last_exit=LastExit("signal", "SIGKILL", AT, 7.1))
    wide, narrow = (render.health(tree(replaced), NOW, columns=columns) for columns in (200, 100))
    assert len(wide) == 2
    assert narrow[2] == "   replaced 3 s ago: killed by SIGKILL, ready again in 7 ms"
    assert narrow[1] + "  " + narrow[2].strip() == wide[1]


def test_a_failed_actor_says_why_and_where_to_look() -> None:
    failed = actor(state="failed", pid=None, last_exit=LastExit("exit", "no such file: x.gguf", AT))
    line = render.health(tree(failed), NOW)[1]
    assert line.startswith("❌ llm.0  failed")
    assert "exited: no such file: x.gguf (3 s ago); see: fusionctl logs llm.0" in line
    assert "last seen" not in line


def test_work_and_a_late_loop_are_shown_only_where_there_are_any() -> None:
    quiet, busy = actor(), actor(in_flight=3, lag=180.0)
    assert "busy" not in render.health(tree(quiet), NOW)[1]
    assert "loop late" not in render.health(tree(quiet), NOW)[1]
    assert "busy 3  loop late 180 ms" in render.health(tree(busy), NOW)[1]


@pytest.mark.parametrize(
    "state", ["starting", "ready", "draining", "backoff", "failed", "stopped", "standby"]
)
def test_every_state_has_a_sign_and_a_word(state: State) -> None:
    line = render.health(tree(actor(state=state)), NOW)[1]
    assert ("active" if state == "ready" else state) in line


@pytest.mark.parametrize(
    ("reason", "detail", "said"),
    [
        ("signal", "SIGSEGV", "killed by SIGSEGV"),
        ("exit", "status 1", "exited: status 1"),
        ("hung", "no heartbeat for 2.0 s", "hung: no heartbeat for 2.0 s"),
        ("stuck", "", "stuck on a cancelled request"),
        ("start_timeout", "", "did not start in time"),
        ("rss", "", "over its memory limit"),
        ("reload", "", "configuration changed"),
        ("restart", "status 0", "restarted by hand"),
    ],
)
def test_every_end_has_its_words(reason: ExitReason, detail: str, said: str) -> None:
    assert render.cause(LastExit(reason, detail, AT)) == said


def test_what_changed_since_the_last_look_is_marked_and_nothing_else() -> None:
    before = tree(actor(), actor("store"))
    after = tree(actor(pid=4188, restarts=1), actor("store"), actor("mcp.time"))
    lines = render.health_again(after, before, NOW, render.plain, 200)
    assert [line.startswith("▶ ") for line in lines] == [False, True, False, True]


def test_nothing_is_marked_at_the_first_look() -> None:
    assert not any("▶" in line for line in render.health_again(tree(actor()), None, NOW, render.plain, 200))


def test_without_colour_there_is_not_one_escape_character() -> None:
    lines = render.health_again(tree(actor(), actor("x", "failed")), tree(), NOW, render.plain, 80)
    assert "\x1b" not in "".join(lines)
    assert "\x1b[32m" in "".join(render.health(tree(actor()), NOW, render.coloured))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.44, "0.4 s"),
        (12.4, "12 s"),
        (59.4, "59 s"),
        (180, "3 min"),
        (7500, "2 h 5 min"),
        (7200, "2 h"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_span_is_told_in_its_largest_units(seconds: float, text: str) -> None:
    assert render.span(seconds) == text


def test_a_time_that_lies_ahead_is_just_now() -> None:
    assert render.ago("2026-11-22T13:00:04.000Z", NOW) == "just now"


def test_sizes_are_decimal() -> None:
    assert [render.size(999), render.size(30_150_656), render.size(2_100_000_000)] == [
        "999 B",
        "30 MB",
        "2.1 GB",
    ]


def recovery(
    noticed: float | None = 0.9,
    respawned: float | None = 1.6,
    ready: float | None = 4.2,
    held: Requests | None = None,
) -> KillReport:
    return KillReport(
        actor="llm.0",
        signal="SIGKILL",
        old_pid=1,
        new_pid=2,
        noticed_ms=noticed,
        respawned_ms=respawned,
        ready_ms=ready,
        requests=held or Requests(),
    )


def test_a_recovery_is_a_timeline() -> None:
    lines = render.recovery(recovery(held=Requests(3, 1, 0)))
    assert lines[0] == "llm.0: SIGKILL sent to pid 1"
    assert [words(line.replace("━", "")) for line in lines[1:]] == [
        "0.9 ms noticed",
        "1.6 ms replaced by pid 2",
        "4.2 ms ready again",
        "requests it held: 3 sent again, 1 continued, 0 failed",
    ]
    bars = [line.count("━") for line in lines[1:4]]
    assert bars == sorted(bars)
    assert bars[-1] == 24


def test_a_recovery_without_requests_does_not_mention_them() -> None:
    assert "requests" not in "".join(render.recovery(recovery()))


def test_a_signal_that_kills_nobody_is_told_as_that() -> None:
    assert "lives on" in render.recovery(recovery(None, None, None))[-1]


def test_a_replacement_that_is_not_ready_is_told_as_that() -> None:
    assert "not ready yet" in render.recovery(recovery(ready=None))[-1]


def test_an_event_is_one_line() -> None:
    happened = Event(time=AT, kind="replaced", actor="llm.0", pid=7, detail="signal: SIGKILL", ms=6.8)
    assert words(render.event(happened)) == f"{AT} llm.0 replaced pid 7 signal: SIGKILL (7 ms)"


def session(title: str = "Hello\nworld") -> SessionSummary:
    return SessionSummary(id="s1", created=AT, updated=AT, turns=1, model="test/echo", title=title)


def test_a_list_of_sessions_has_a_line_for_each() -> None:
    assert [words(line) for line in render.sessions([session()], NOW)] == [
        "s1 3 s ago 1 turn test/echo Hello world"
    ]


def test_an_answer_cut_short_is_marked_as_such() -> None:
    detail = SessionDetail(
        id="s1",
        created=AT,
        updated=AT,
        turns=1,
        model="test/echo",
        title="Hello",
        messages=[
            StoredMessage(role="user", content="Hello", time=AT),
            StoredMessage(role="assistant", content="Hel", time=AT, complete=False),
        ],
    )
    assert "assistant  (cut short)" in render.conversation(detail)
    assert "## assistant (cut short)" in render.markdown(detail)
    assert "## user" in render.markdown(detail)
