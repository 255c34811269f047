"""Which models there are, where their files stand, and what is said of those that are not there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fusiond.errors import ConfigError, ModelMissing, NotFound, UnknownModel, UsageError
from fusiond.models import SMOLLM2, Listed, add, locate, present


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / 'my "model".gguf'
    path.write_bytes(b"GGUF\x03")
    return path


def test_the_embedded_model_is_missing_until_it_is_fetched(folder: Path) -> None:
    with pytest.raises(
        ModelMissing, match="local/smollm2 is not on this machine yet — run: fusionctl models pull"
    ):
        locate(folder, "smollm2")
    assert present(folder) == [Listed("smollm2", "local", False, folder / SMOLLM2.file)]


def test_half_a_file_is_no_model(folder: Path) -> None:
    folder.mkdir()
    (folder / SMOLLM2.file).write_bytes(b"GGUF")
    with pytest.raises(ModelMissing, match="is damaged"):
        locate(folder, "smollm2")
    assert not present(folder)[0].present


def test_an_added_model_is_found_where_it_is(folder: Path, gguf: Path) -> None:
    assert add(folder, "mine", gguf) == gguf
    assert locate(folder, "mine") == gguf
    assert present(folder)[1] == Listed("mine", "local", True, gguf)


def test_an_added_model_is_found_from_any_folder(
    folder: Path, gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    add(folder, "mine", Path(gguf.name))
    monkeypatch.chdir("/")
    assert locate(folder, "mine") == gguf


def test_adding_again_replaces_and_keeps_the_others(folder: Path, gguf: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF")
    for name, path in (("a", gguf), ("b", gguf), ("a", other)):
        add(folder, name, path)
    assert [(one.name, one.path) for one in present(folder)[1:]] == [("a", other), ("b", gguf)]


def test_many_added_at_once_are_all_recorded(folder: Path, gguf: Path) -> None:
    names = [f"m{number}" for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: add(folder, name, gguf), names))
    assert sorted(one.name for one in present(folder)[1:]) == sorted(names)
    assert sorted(file.name for file in folder.iterdir()) == [".models.lock", "models.toml"]


def test_an_added_model_whose_file_is_gone_says_so(folder: Path, gguf: Path) -> None:
    add(folder, "mine", gguf)
    gguf.unlink()
    with pytest.raises(ConfigError, match=r"my \"model\".gguf, does not exist"):
        locate(folder, "mine")
    assert not present(folder)[1].present


def test_an_unknown_model_gets_the_nearest_name(folder: Path, gguf: Path) -> None:
    add(folder, "my-llama", gguf)
    with pytest.raises(UnknownModel, match=r"did you mean local/smollm2\?"):
        locate(folder, "smolm2")
    with pytest.raises(UnknownModel, match=r"did you mean local/my-llama\?"):
        locate(folder, "my_lama")
    with pytest.raises(UnknownModel, match="there is no model local/zzz — see: fusionctl models"):
        locate(folder, "zzz")


@pytest.mark.parametrize("name", ["", "a/b", "../a", "-a", "a b", "x" * 65])
def test_a_name_that_is_none_is_refused(name: str, folder: Path, gguf: Path) -> None:
    with pytest.raises(UsageError, match="no name for a model"):
        add(folder, name, gguf)


def test_the_embedded_models_name_is_taken(folder: Path, gguf: Path) -> None:
    with pytest.raises(UsageError, match="smollm2 is the embedded model"):
        add(folder, "smollm2", gguf)


def test_only_a_gguf_file_can_be_added(folder: Path, tmp_path: Path) -> None:
    for content in (b"", b"GGU", b"ggml...."):
        (tmp_path / "x.gguf").write_bytes(content)
        with pytest.raises(UsageError, match="is not a GGUF file"):
            add(folder, "x", tmp_path / "x.gguf")
    with pytest.raises(NotFound, match="does not exist"):
        add(folder, "x", tmp_path / "none.gguf")
    with pytest.raises(UsageError, match="Is a directory"):
        add(folder, "x", tmp_path)
    assert not folder.exists()


def test_a_path_that_is_no_text_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "\udcff.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(UsageError, match="not UTF-8"):
        add(folder, "x", path)


@pytest.mark.parametrize("text", ["[models", "models = 3", "[models]\nx = 3"])
def test_a_damaged_record_is_said(text: str, folder: Path) -> None:
    folder.mkdir()
    (folder / "models.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"models\.toml"):
        locate(folder, "mine")
