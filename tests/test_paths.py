"""Client and daemon find the same files, whatever a home is called; nobody else's folder is ever used."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fusiond import paths as paths_module
from fusiond.errors import ConfigError, Denied, UsageError
from fusiond.paths import SOCKET_PATH_MAX, Paths, prepare, resolve, service_paths


@pytest.fixture(autouse=True)
def no_real_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the machine's /tmp, /run/user or the user's home is touched or consulted."""
    for name in ("tmp", "run-user", "user"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(paths_module, "_TEMPORARY", tmp_path / "tmp")
    monkeypatch.setattr(paths_module, "_RUN_USER", tmp_path / "run-user")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    for kind in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.delenv(f"XDG_{kind}_HOME", raising=False)


@pytest.fixture
def tmp(tmp_path: Path) -> Path:
    return tmp_path / "tmp"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def long_home(tmp_path: Path) -> Path:
    return tmp_path / ("a-long-name-" * 9)


# --- everything below one folder ---------------------------------------------------------------------------


def test_a_home_holds_everything(tmp_path: Path) -> None:
    paths = resolve(tmp_path / "h", env={})
    home = tmp_path / "h"
    assert paths == Paths(home, home / "config.toml", home / "state", home / "models", home / "run")
    assert paths.router_socket == home / "run/router.sock"
    assert paths.supervisor_socket == home / "run/supervisor.sock"
    assert paths.actors_socket == home / "run/actors.sock"
    assert paths.lock == home / "run/fusiond.lock"
    assert paths.events == home / "state/events.jsonl"
    assert paths.logs == home / "state/logs"
    assert paths.daemon_log == home / "state/logs/fusiond.log"
    assert paths.database == home / "state/fusion.db"


def test_the_option_wins_over_the_environment_and_that_over_systemd(tmp_path: Path) -> None:
    env = {"FUSION_HOME": str(tmp_path / "env"), "STATE_DIRECTORY": "/var/lib/fusion"}
    assert resolve(tmp_path / "option", env).home == tmp_path / "option"
    assert resolve(None, env).home == tmp_path / "env"
    assert resolve(None, env).state == tmp_path / "env/state"


@pytest.mark.parametrize("spelling", ["h/", "./h", "x/../h", "h//", "h/."])
def test_one_home_spelt_in_many_ways_is_one_home(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve(spelling, env={}) == resolve(tmp_path / "h", env={})


def test_a_link_to_a_home_is_that_home(tmp_path: Path) -> None:
    (tmp_path / "h").mkdir()
    (tmp_path / "link").symlink_to("h")
    assert resolve(tmp_path / "link", env={}) == resolve(tmp_path / "h", env={})


def test_a_tilde_is_the_users_home_in_every_variable(tmp_path: Path) -> None:
    user = tmp_path / "user"
    env = {"FUSION_HOME": "~/f", "FUSION_CONFIG": "~/c.toml", "FUSION_MODELS": "~/m"}
    paths = resolve(None, env)
    assert (paths.home, paths.config_file, paths.models) == (user / "f", user / "c.toml", user / "m")


def test_spaces_and_other_alphabets_are_names_like_any_other(tmp_path: Path) -> None:
    paths = resolve(tmp_path / "my höme", env={})
    prepare(paths)
    assert paths.run == tmp_path / "my höme/run"
    assert paths.run.is_dir()


def test_models_and_configuration_can_live_elsewhere(tmp_path: Path) -> None:
    env = {"FUSION_MODELS": str(tmp_path / "shared"), "FUSION_CONFIG": str(tmp_path / "c.toml")}
    paths = resolve(tmp_path / "h", env)
    assert (paths.models, paths.config_file) == (tmp_path / "shared", tmp_path / "c.toml")
    assert paths.state == tmp_path / "h/state"


def test_empty_variables_count_as_unset(tmp_path: Path) -> None:
    env = {"FUSION_CONFIG": "", "FUSION_MODELS": "", "FUSION_HOME": str(tmp_path)}
    assert resolve(None, env).config_file == tmp_path / "config.toml"
    assert resolve(None, {"FUSION_HOME": ""}).home is None


def test_an_empty_option_is_refused() -> None:
    with pytest.raises(UsageError, match="--home is empty"):
        resolve("", env={})


# --- systemd, and the user's own folders -------------------------------------------------------------------


def test_under_systemd_its_folders_are_used_the_first_of_each_list() -> None:
    env = {
        "RUNTIME_DIRECTORY": "/run/fusion:/run/other",
        "STATE_DIRECTORY": "/var/lib/fusion",
        "CONFIGURATION_DIRECTORY": "/etc/fusion",
        "CACHE_DIRECTORY": "/var/cache/fusion",
    }
    assert resolve(None, env) == service_paths()


def test_without_a_home_the_users_folders_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg-state"))
    paths = resolve(None, {"XDG_RUNTIME_DIR": str(runtime)})
    user = tmp_path / "user"
    assert paths == Paths(
        None,
        config_file=user / ".config/fusion/config.toml",
        state=tmp_path / "xdg-state/fusion",
        models=user / ".cache/fusion/models",
        run=runtime / "fusion",
    )


def test_without_xdg_runtime_dir_the_sessions_folder_is_found_all_the_same(tmp_path: Path) -> None:
    session = tmp_path / "run-user" / str(os.geteuid())
    session.mkdir()
    assert resolve(None, env={}).run == session / "fusion"


def test_without_any_runtime_folder_a_private_one_in_tmp_is_used(tmp: Path) -> None:
    paths = resolve(None, env={})
    assert paths.run.parent == tmp / f"fusion-{os.geteuid()}"
    assert not paths.run.exists()
    prepare(paths)
    assert mode(paths.run) == mode(paths.run.parent) == 0o700
    assert resolve(None, env={}) == paths


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a folder away")
def test_another_users_runtime_folder_is_not_used(tmp_path: Path, tmp: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    assert resolve(None, {"XDG_RUNTIME_DIR": str(theirs)}).run.parent.parent == tmp


@pytest.mark.parametrize("version", ["raises", "returns a tilde"])
def test_a_user_without_a_home_folder_is_told_so(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    def nothing_known(_app: str) -> str:
        if version == "raises":
            raise RuntimeError("could not determine the home directory")
        return "~/.config/fusion"

    monkeypatch.setattr(platformdirs, "user_config_dir", nothing_known)
    with pytest.raises(ConfigError, match="FUSION_HOME"):
        resolve(None, env={})


# --- a home too long for a socket --------------------------------------------------------------------------


def test_a_home_too_long_for_a_socket_gets_a_short_private_folder(tmp_path: Path, tmp: Path) -> None:
    paths = resolve(long_home(tmp_path), env={})
    assert paths.run.parent == tmp / f"fusion-{os.geteuid()}"
    assert paths.state == long_home(tmp_path) / "state"
    assert resolve(f"{long_home(tmp_path)}/", env={}) == paths
    assert resolve(tmp_path / ("b-long-name-" * 9), env={}).run != paths.run


def test_the_longest_socket_that_the_kernel_takes_stays_at_home(tmp_path: Path) -> None:
    room = SOCKET_PATH_MAX - len(f"{tmp_path}//run/supervisor.sock")
    assert resolve(tmp_path / ("x" * room), env={}).run == tmp_path / ("x" * room) / "run"
    assert resolve(tmp_path / ("x" * (room + 1)), env={}).run != tmp_path / ("x" * (room + 1)) / "run"


def test_bytes_count_and_not_letters(tmp_path: Path, tmp: Path) -> None:
    room = SOCKET_PATH_MAX - len(f"{tmp_path}//run/supervisor.sock")
    assert resolve(tmp_path / ("ü" * room), env={}).run.parent.parent == tmp


def test_the_real_private_folder_is_short_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths_module, "_TEMPORARY", Path("/tmp"))
    run = resolve(long_home(tmp_path), env={}).run
    assert len(str(run / "supervisor.sock")) < 70


@pytest.mark.parametrize("level", ["parent", "folder"])
@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_link_in_place_of_the_private_folder_is_refused(level: str, target: str, tmp_path: Path) -> None:
    paths = resolve(long_home(tmp_path), env={})
    place = paths.run.parent if level == "parent" else paths.run
    place.parent.mkdir(mode=0o700, exist_ok=True)
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    place.symlink_to(tmp_path / target)
    with pytest.raises(Denied, match="is a link"):
        resolve(long_home(tmp_path), env={})
    with pytest.raises(Denied, match="is a link"):
        prepare(paths)
    assert mode(tmp_path / "elsewhere") == 0o755


def test_a_private_folder_open_to_others_is_refused(tmp_path: Path) -> None:
    paths = resolve(long_home(tmp_path), env={})
    prepare(paths)
    paths.run.chmod(0o770)
    with pytest.raises(Denied, match="open to other users"):
        resolve(long_home(tmp_path), env={})


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a folder away")
def test_another_users_private_folder_is_refused(tmp_path: Path) -> None:
    paths = resolve(long_home(tmp_path), env={})
    prepare(paths)
    os.chown(paths.run.parent, 12345, 12345)
    with pytest.raises(Denied, match="belongs to user 12345"):
        resolve(long_home(tmp_path), env={})


# --- making the folders ------------------------------------------------------------------------------------


def test_prepare_makes_folders_for_nobody_else(tmp_path: Path) -> None:
    paths = resolve(tmp_path / "h", env={})
    prepare(paths)
    prepare(paths)
    assert [mode(folder) for folder in (paths.run, paths.state, paths.logs)] == [0o700] * 3


def test_prepare_closes_an_open_folder_in_a_home(tmp_path: Path) -> None:
    paths = resolve(tmp_path / "h", env={})
    paths.run.mkdir(parents=True, mode=0o755)
    prepare(paths)
    assert mode(paths.run) == 0o700


def test_prepare_leaves_systemds_group_in(tmp_path: Path) -> None:
    run = tmp_path / "systemd-run"
    run.mkdir()
    run.chmod(0o755)
    paths = resolve(None, {"RUNTIME_DIRECTORY": str(run), "STATE_DIRECTORY": str(tmp_path / "state")})
    prepare(paths)
    assert mode(run) == 0o750


def test_prepare_says_what_stands_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "h").mkdir()
    (tmp_path / "h/state").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="/file is not a folder"):
        prepare(resolve(tmp_path / "file", env={}))
    with pytest.raises(ConfigError, match="/state is not a folder"):
        prepare(resolve(tmp_path / "h", env={}))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a folder away")
def test_prepare_refuses_another_users_state(tmp_path: Path) -> None:
    paths = resolve(tmp_path / "h", env={})
    prepare(paths)
    os.chown(paths.state, 12345, 12345)
    with pytest.raises(Denied, match="belongs to user 12345"):
        prepare(paths)


def test_prepare_says_that_it_may_not(tmp_path: Path) -> None:
    home = tmp_path / "h"
    home.mkdir(mode=0o500)
    if os.access(home, os.W_OK):
        pytest.skip("root may write anywhere")
    with pytest.raises(Denied, match="permission denied"):
        prepare(resolve(home, env={}))


def test_importing_paths_is_cheap() -> None:
    code = "import sys, fusiond.paths; print('platformdirs' in sys.modules, 'tomllib' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "False"]
