"""Everything wrong is found at once, with key, line and nearest right name."""

from __future__ import annotations

import pytest

from fusiond.config import Problem, check
from tests.config.files import only


@pytest.mark.parametrize(
    ("text", "key", "line", "nearest"),
    [
        (
            "[supervisor]\nhartbeat_timeout_ms = 1",
            "supervisor.hartbeat_timeout_ms",
            2,
            "supervisor.heartbeat_timeout_ms",
        ),
        ("[superviser]\nstartup_timeout_s = 1", "superviser", 1, "supervisor"),
        ("\nheartbeat_interval_ms = 1", "heartbeat_interval_ms", 2, "supervisor.heartbeat_interval_ms"),
        ("[actors.llmm]\nreplicas = 1", "actors.llmm", 1, "actors.llm"),
        ("[actors.llm]\nreplica = 1", "actors.llm.replica", 2, "actors.llm.replicas"),
        ("[actors]\nllm = {replica = 1}", "actors.llm.replica", 2, "actors.llm.replicas"),
        (
            "[providers.x]\nbase_url = 'http://a'\nurl = 'http://b'",
            "providers.x.url",
            3,
            "providers.x.base_url",
        ),
        ("[mcp.time]\ncommand = 'x'", "mcp.time", 1, "mcp.servers.time"),
        ("mcpServers.x.command = 'x'", "mcpServers", 1, "mcp.servers"),
        ("[agents]\nmodule = ['x']", "agents.module", 2, "agents.modules"),
        ("[agents.a]\nsystem-prompt = 'x'", "agents.a.system-prompt", 2, "agents.a.system_prompt"),
        ("[router]\n'queue size' = 1", 'router."queue size"', 2, "router.queue_size"),
        ("zzz = 1", "zzz", 1, None),
    ],
)
def test_an_unknown_key_is_named_with_its_line_and_the_nearest_right_one(
    text: str, key: str, line: int, nearest: str | None
) -> None:
    assert only(text) == Problem(key, line, f"unknown key {key}", nearest)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('supervisor.heartbeat_interval_ms = "x"', "must be a whole number, not text"),
        ("supervisor.heartbeat_interval_ms = 250.5", "must be a whole number, not a number"),
        ("supervisor.heartbeat_interval_ms = true", "must be a whole number, not true or false"),
        ("supervisor.startup_timeout_s = 2026-01-01", "must be a number, not a date or time"),
        ("model = 3", "must be text, not a whole number"),
        ("supervisor = 3", "must be a table, not a whole number"),
        ("actors = []", "must be a table, not a list"),
        ("actors.llm = 'x'", "must be a table, not text"),
        ("actors.llm.standby = 'on'", 'must be "auto" or a whole number, not "on"'),
        ("actors.llm.standby = 1.5", 'must be "auto" or a whole number, not a number'),
        ("tools.modules = 'x'", "must be a list, not text"),
        ("tools.modules = ['x', 3]", "item 2 must be text, not a whole number"),
        ("tools.approval = 'ask'", "must be a table, not text"),
    ],
)
def test_a_wrong_type_is_said_in_words(text: str, message: str) -> None:
    assert only(text).message.partition(" ")[2] == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("supervisor.heartbeat_interval_ms = -5", "must be at least 10, not -5"),
        ("supervisor.startup_timeout_s = 0", "must be more than 0, not 0"),
        ("supervisor.startup_timeout_s = nan", "must be more than 0, not nan"),
        ("supervisor.restart_period_s = inf", "must be at most 86400, not inf"),
        ("router.queue_size = 0", "must be at least 1, not 0"),
        ("actors.llm.replicas = -1", "must be at least 0, not -1"),
        ("actors.llm.replicas = 0", "must be at least 1, nothing is answered without it"),
        ("actors.router.replicas = 0", "must be 1, there is one router only"),
        ("actors.store.replicas = 2", "must be 1, there is one store only"),
        ("actors.llm.standby = -1", "must be at least 0, not -1"),
        ("sessions.storage = 'disc'", 'must be "disk" or "memory", not "disc"'),
        ("log_level = 'info'", 'must be "DEBUG", "INFO", "WARNING" or "ERROR", not "info"'),
        ("tools.approval.shell = 'asks'", 'must be "allow", "ask" or "never", not "asks"'),
        ("tools.shell.timeout_s = -1", "must be more than 0, not -1"),
        ("tools.modules = ['my-tools.py']", 'must hold names of Python modules, and "my-tools.py" is none'),
        ("agents.modules = ['']", 'must hold names of Python modules, and "" is none'),
        ("model = 'gpt-4o'", 'must be written provider/name, not "gpt-4o"'),
        ("providers.mylab = {}", "is missing: where is this provider's API?"),
        ("providers.mylab.base_url = 'localhost:8000'", "must be a URL such as http://127.0.0.1:8000/v1"),
        ("providers.mylab.base_url = 'http://'", "must be a URL such as http://127.0.0.1:8000/v1"),
        ("providers.mylab.base_url = 'http://h:99999'", "must be a URL such as http://127.0.0.1:8000/v1"),
        ("providers.mylab.base_url = 'http://a b'", "must be a URL such as http://127.0.0.1:8000/v1"),
        ("providers.local.base_url = 'http://h'", "cannot be configured: it is the embedded model"),
        (
            "providers.openai.kind = 'anthropic'",
            'must be "openai" here; give one of another kind another name',
        ),
        ("providers.'a/b'.base_url = 'http://h'", "is no name: up to 64 letters, digits, - and _"),
        ("mcp.servers.a = {}", "has neither command nor url"),
        ("mcp.servers.a = {command = 'x', url = 'http://h'}", "stands beside command: give one of them"),
        ("mcp.servers.a = {url = 'http://h', args = []}", "makes no sense with url"),
        ("mcp.servers.a = {command = 'x', headers = {}}", "makes no sense with command"),
        ("mcp.servers.a = {url = 'ftp://h'}", "must be a URL such as http://127.0.0.1:8000/v1"),
        ("mcp.servers.'../a' = {command = 'x'}", "is no name: up to 64 letters, digits, - and _"),
    ],
)
def test_an_impossible_value_is_refused(text: str, message: str) -> None:
    assert only(text).message.partition(" ")[2] == message


def test_a_heartbeat_must_fit_into_its_timeout() -> None:
    both = "[supervisor]\nheartbeat_interval_ms = 500\nheartbeat_timeout_ms = 500"
    assert str(only(both)) == (
        "line 3: supervisor.heartbeat_timeout_ms must be more than heartbeat_interval_ms, which is 500"
    )
    assert str(only("[supervisor]\nheartbeat_interval_ms = 2000")) == (
        "line 2: supervisor.heartbeat_interval_ms must be less than heartbeat_timeout_ms, which is 2000"
    )


def test_a_model_of_an_unknown_provider_is_refused_and_the_nearest_named() -> None:
    problem = only("model = 'opnai/gpt-4o'")
    assert problem.nearest == "openai/gpt-4o"
    assert "anthropic, local, openai" in problem.message
    assert check("model = 'mylab/org/name'\n[providers.mylab]\nbase_url = 'http://h'") == []


def test_a_key_written_into_the_file_is_refused_and_not_repeated() -> None:
    for key in ("api_key", "api_key_env"):
        text = str(only(f"providers.openai.{key} = 'sk-very-secret'"))
        assert "secret" not in text
        assert "api_key_env" in text


def test_a_variable_and_a_file_for_one_key_are_one_too_many() -> None:
    assert only("[providers.openai]\napi_key_env = 'A'\napi_key_file = 'b'").line == 3


def test_all_problems_are_found_at_once_in_the_order_of_their_lines() -> None:
    text = """\
model = "nowhere/x"
[sessions]
storage = "tape"
[router]
queue_size = -1
size = 3
[actors.router]
replicas = 2
[mcp.servers.a]
[mcp.servers.b]
comand = "x"
[tools]
approval = {shell = "perhaps", http = 3}
[agents.a]
tools = [1, "x", 2]
"""
    assert [(problem.line, problem.key) for problem in check(text)] == [
        (1, "model"),
        (3, "sessions.storage"),
        (5, "router.queue_size"),
        (6, "router.size"),
        (8, "actors.router.replicas"),
        (9, "mcp.servers.a"),
        (11, "mcp.servers.b.comand"),
        (13, "tools.approval.shell"),
        (13, "tools.approval.http"),
        (15, "agents.a.tools"),
        (15, "agents.a.tools"),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = 1\nb = = 2", 2), ("a = 1\na = 2", 2), ("a = [1,\n2\n\n", 2), ("[x\ny = 1", 1), ('a = "x', 1)],
)
def test_what_is_not_toml_is_said_with_its_line(text: str, line: int) -> None:
    problem = only(text)
    assert problem.message.startswith("this is not TOML: ")
    assert (problem.key, problem.line) == ("", line)
