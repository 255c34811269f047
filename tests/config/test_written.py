"""What `config init` and `config show` write is right, complete and holds no secret."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec

from fusiond.config import ACTOR_KINDS, BUILT_IN_PROVIDERS, DEFAULT_TOML, Config, check, load, shown, to_toml
from tests.config.files import EXAMPLE, loaded


def test_the_file_that_init_writes_says_nothing_but_defaults(tmp_path: Path) -> None:
    assert check(DEFAULT_TOML) == []
    assert loaded(tmp_path, DEFAULT_TOML) == load(tmp_path / "none", {})


def test_every_key_that_init_offers_is_right_and_has_its_default(tmp_path: Path) -> None:
    uncommented = re.sub(r"^#(?=[a-z_\[])", "", DEFAULT_TOML, flags=re.MULTILINE)
    assert check(uncommented) == []
    config = loaded(tmp_path, uncommented)
    defaults = load(tmp_path / "none", {})
    assert config.model == "openai/gpt-4o-mini"
    for field in ("log_level", "supervisor", "router", "sessions", "actors"):
        assert getattr(config, field) == getattr(defaults, field)
    assert list(config.tools.configured) == ["weather"]
    assert msgspec.structs.replace(config.tools, configured={}) == defaults.tools
    assert {name: config.providers[name] for name in BUILT_IN_PROVIDERS} == BUILT_IN_PROVIDERS


def test_init_offers_every_key() -> None:
    offered = tomllib.loads(re.sub(r"^#(?=[a-z_\[])", "", DEFAULT_TOML, flags=re.MULTILINE))
    assert set(offered) == set(Config.__struct_fields__)
    assert set(offered["actors"]) == set(ACTOR_KINDS)
    for section in ("supervisor", "router", "sessions"):
        assert set(offered[section]) == set(getattr(Config(), section).__struct_fields__)
    own = set(Config().tools.__struct_fields__) - {"configured"}
    assert set(offered["tools"]) == own | {"weather"}


def test_what_show_writes_is_a_right_file_that_means_the_same(tmp_path: Path) -> None:
    config = loaded(tmp_path, EXAMPLE)
    text = to_toml(shown(config))
    assert check(text) == []
    assert loaded(tmp_path, text) == config


def test_show_hides_what_may_be_secret(tmp_path: Path) -> None:
    text = """\
providers.lab.base_url = "https://me:hunter2@host/v1"
[mcp.servers.a]
command = "x"
args = ["--api-key", "hunter2", "--token=hunter2", "-v", "https://me:hunter2@h/?t=hunter2"]
env = {TOKEN = "hunter2"}
[mcp.servers.b]
url = "https://host/mcp?token=hunter2"
headers = {Authorization = "Bearer hunter2"}
"""
    env = {"OPENAI_API_KEY": "hunter2"}
    written = to_toml(shown(loaded(tmp_path, text, env)))
    assert "hunter2" not in written
    assert 'base_url = "https://***@host/v1"' in written
    assert 'args = ["--api-key", "***", "--token=***", "-v", "https://***@h/?***"]' in written
    assert 'Authorization = "***"' in written
