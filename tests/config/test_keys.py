"""Keys come from variables, files and credentials, and stay out of the configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusiond.config import resolve_keys
from fusiond.config.keys import key_file
from fusiond.errors import ConfigError, Denied
from tests.config.files import loaded


def test_a_key_comes_from_its_variable(tmp_path: Path) -> None:
    env = {"OPENAI_API_KEY": "sk-1\n", "LAB": "sk-2"}
    config = loaded(tmp_path, "providers.lab = {base_url = 'http://h', api_key_env = 'LAB'}", env)
    assert resolve_keys(config, env) == {"openai": "sk-1", "lab": "sk-2"}


def test_a_key_comes_from_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "openai.key").write_text("sk-file\n")
    config = loaded(tmp_path, "providers.openai.api_key_file = 'openai.key'")
    assert config.model.startswith("openai/")
    assert config.providers["openai"].api_key_env == ""
    assert resolve_keys(config, {"OPENAI_API_KEY": "sk-env"}) == {"openai": "sk-file"}


def test_a_key_comes_from_systemds_credentials_by_name(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "OPENAI_API_KEY").write_text("sk-1")
    (credentials / "lab").write_text("sk-2")
    env = {"CREDENTIALS_DIRECTORY": str(credentials)}
    config = loaded(tmp_path, "providers.lab = {base_url = 'http://h', api_key_file = 'lab'}", env)
    assert resolve_keys(config, env) == {"openai": "sk-1", "lab": "sk-2"}
    assert config.model.startswith("openai/")


def test_a_key_file_of_no_use_is_refused(tmp_path: Path) -> None:
    config = loaded(tmp_path, "providers.openai.api_key_file = 'k'")
    with pytest.raises(ConfigError, match=r"provider openai.*does not exist"):
        resolve_keys(config, {})
    for content in ("", "one two", "one\ntwo", "schlüssel"):
        (tmp_path / "k").write_text(content)
        with pytest.raises(ConfigError, match="key of provider openai"):
            resolve_keys(config, {})
    (tmp_path / "k").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not text"):
        resolve_keys(config, {})


def test_a_key_file_that_may_not_be_read_is_denied(tmp_path: Path) -> None:
    config = loaded(tmp_path, "providers.openai.api_key_file = 'k'")
    (tmp_path / "k").write_text("sk")
    (tmp_path / "k").chmod(0)
    if os.access(tmp_path / "k", os.R_OK):
        pytest.skip("root may read anything")
    with pytest.raises(Denied):
        resolve_keys(config, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_credentials_that_may_not_be_looked_at_are_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o000)
    with pytest.raises(Denied, match="cannot be looked at"):
        key_file("anything", tmp_path, {"CREDENTIALS_DIRECTORY": str(tmp_path / "closed")})
