"""What a file means, what the environment changes, how a wrong file is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from fusiond.config import (
    ACTOR_KINDS,
    BUILT_IN_PROVIDERS,
    ActorSettings,
    AgentDefinition,
    Config,
    McpServer,
    ProviderSettings,
    check,
    load,
)
from fusiond.errors import ConfigError, UnknownModel
from tests.config.files import EXAMPLE, loaded, only


def test_no_file_means_defaults(tmp_path: Path) -> None:
    assert load(tmp_path / "config.toml", {}) == Config(model="local/smollm2")


def test_the_documented_example_is_right(tmp_path: Path) -> None:
    config = loaded(tmp_path, EXAMPLE)
    assert check(EXAMPLE) == []
    assert config.model == "openai/gpt-4o-mini"
    assert config.mcp.servers == {"time": McpServer(command="mcp-server-time")}
    assert config.tools.shell.allow == ["ls", "git status"]
    assert config.agents.modules == ["my_agents"]
    assert config.agents.defined == {
        "reviewer": AgentDefinition(description="…", system_prompt="…", tools=["read_file", "mcp:time/*"])
    }
    assert config.providers == {
        **BUILT_IN_PROVIDERS,
        "mylab": ProviderSettings(base_url="http://127.0.0.1:8000/v1"),
    }


def test_the_documented_defaults_are_the_defaults() -> None:
    config = Config()
    assert config.supervisor.heartbeat_interval_ms == 250
    assert config.supervisor.heartbeat_timeout_ms == 2000
    assert config.supervisor.startup_timeout_s == 30
    assert config.supervisor.shutdown_grace_s == 5
    assert (config.supervisor.restart_intensity, config.supervisor.restart_period_s) == (20, 2.0)
    assert config.router.queue_size == 1024
    assert config.sessions.storage == "disk"
    assert config.actors == dict.fromkeys(
        ACTOR_KINDS, ActorSettings(replicas=1, standby="auto", max_rss_mb=0)
    )


def test_one_actor_configured_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    config = loaded(tmp_path, "actors.llm = {replicas = 3, standby = 1}")
    assert config.actors["llm"] == ActorSettings(replicas=3, standby=1)
    assert config.actors["tools"] == ActorSettings()


def test_approvals_left_out_keep_asking(tmp_path: Path) -> None:
    config = loaded(tmp_path, 'tools.approval = {http = "never"}')
    assert config.tools.approval == {"http": "never", "shell": "ask", "write_file": "ask"}


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    text = "\ufeff" + EXAMPLE.replace("\n", "\r\n")
    (tmp_path / "config.toml").write_bytes(text.encode())
    assert load(tmp_path / "config.toml", {}).router.queue_size == 1024
    assert only("\ufeff[router]\r\n\r\nqueue_sise = 1\r\n").line == 3


def test_loading_a_wrong_file_names_file_line_key_and_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, "[router]\nqueue_sise = 3\nsize = 1")
    assert str(caught.value) == (
        f"{tmp_path}/config.toml line 2: unknown key router.queue_sise (did you mean router.queue_size?)"
        " — and 1 more: fusionctl config check"
    )
    assert caught.value.exit_code == 78


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"model = 'a/b'\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"config\.toml line 2: this is not UTF-8"):
        load(tmp_path / "config.toml", {})


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, {})


def test_a_file_asked_for_and_missing_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    with pytest.raises(ConfigError, match="config init"):
        load(file, {"FUSION_CONFIG": str(file)})
    file.symlink_to("nowhere")
    with pytest.raises(ConfigError, match="does not exist"):
        load(file, {})


def test_the_default_model_is_the_first_that_can_be_asked(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    both = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}
    assert load(file, {}).model == "local/smollm2"
    assert load(file, {"OPENAI_API_KEY": " "}).model == "local/smollm2"
    assert load(file, {"ANTHROPIC_API_KEY": "k"}).model.startswith("anthropic/claude-")
    assert load(file, both).model.startswith("openai/gpt-")
    assert loaded(tmp_path, "model = 'local/mine'", both).model == "local/mine"
    assert loaded(tmp_path, "model = 'local/mine'", {"FUSION_MODEL": "openai/x"}).model == "openai/x"


def test_a_model_from_the_environment_is_checked_too(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"FUSION_MODEL names no provider.*did you mean openai/x\?"):
        load(tmp_path / "none", {"FUSION_MODEL": "openia/x"})


def test_the_environment_moves_the_built_in_providers(tmp_path: Path) -> None:
    env = {"OPENAI_BASE_URL": "http://proxy/v1", "ANTHROPIC_BASE_URL": "http://other"}
    config = loaded(tmp_path, "providers.openai.base_url = 'http://file'", env)
    assert config.providers["openai"].base_url == "http://proxy/v1"
    assert config.providers["anthropic"].base_url == "http://other"
    assert config.providers["openai"].api_key_env == "OPENAI_API_KEY"
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL must be a URL"):
        load(tmp_path / "none", {"OPENAI_BASE_URL": "proxy"})


def test_the_log_level_comes_from_the_environment_in_any_case(tmp_path: Path) -> None:
    assert loaded(tmp_path, "log_level = 'ERROR'").log_level == "ERROR"
    assert loaded(tmp_path, "log_level = 'ERROR'", {"FUSION_LOG_LEVEL": "debug"}).log_level == "DEBUG"
    with pytest.raises(ConfigError, match=r"did you mean WARNING\?"):
        load(tmp_path / "none", {"FUSION_LOG_LEVEL": "warnings"})


def test_a_configuration_can_be_sent_to_a_process() -> None:
    config = Config(model="local/smollm2")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(config), type=Config) == config


def test_importing_the_configuration_is_cheap() -> None:
    code = "import sys, fusiond.config; print({'tomllib', 'difflib', 'zmq', 'httpx'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
