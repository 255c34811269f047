"""What is released: a source distribution and a wheel, each installed in an environment of its own and used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from fusiond import __version__
from tests.tree import ROOT

COMPLETIONS = {
    "bash": ("fusionctl", "share/bash-completion/completions"),
    "zsh": ("_fusionctl", "share/zsh/site-functions"),
    "fish": ("fusionctl.fish", "share/fish/vendor_completions.d"),
}


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a command puts out; without anything of this source on its path."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FUSION_"))
    }
    done = subprocess.run(
        command,
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel, made from the source distribution, and that."""
    folder = tmp_path_factory.mktemp("packages")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, source


def install(folder: Path, what: Sequence[str | Path]) -> Path:
    """A fresh environment with this in it; its programs."""
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    programs = folder / "venv" / "bin"
    run(programs / "pip", "install", "-q", *what, cwd=folder)
    return programs


@pytest.mark.parametrize("shell", COMPLETIONS)
def test_the_completion_files_are_what_the_command_prints(shell: str) -> None:
    name, _ = COMPLETIONS[shell]
    printed = run(sys.executable, "-m", "fusionctl", "completion", shell, cwd=ROOT)
    assert (ROOT / "fusionctl" / "completions" / name).read_text() == printed, "out of date: just generate"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_wheel_is_whole_and_works_in_a_clean_environment(
    packages: tuple[Path, Path], tmp_path: Path
) -> None:
    wheel, _ = packages
    names = zipfile.ZipFile(wheel).namelist()
    documents = {f"fusiond/docs/{path.name}" for path in (ROOT / "fusiond" / "docs").glob("*.md")}
    assert {"fusiond/py.typed", "fusionctl/py.typed", *documents} <= set(names)
    assert not [name for name in names if name.startswith("tests/")]
    assert [name for name in names if name.endswith("licenses/LICENSE")]
    programs = install(tmp_path, [wheel])
    for name, folder in COMPLETIONS.values():
        assert (tmp_path / "venv" / folder / name).exists()
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text(
        'model = "lab/x"\n[providers.lab]\nbase_url = "http://127.0.0.1:9/v1"\n'
    )
    fusionctl = programs / "fusionctl"
    try:
        assert __version__ in run(fusionctl, "--version", cwd=tmp_path)
        run(fusionctl, "config", "check", cwd=tmp_path, FUSION_HOME=str(home))
        run(fusionctl, "start", cwd=tmp_path, FUSION_HOME=str(home))
        health = json.loads(run(fusionctl, "health", "--json", cwd=tmp_path, FUSION_HOME=str(home)))
        assert health["status"] == "healthy"
    finally:
        run(fusionctl, "stop", cwd=tmp_path, FUSION_HOME=str(home))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_source_distribution_passes_its_own_tests(packages: tuple[Path, Path], tmp_path: Path) -> None:
    _, source = packages
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    for name in (
        "LICENSE",
        "CHANGELOG.md",
        "README.md",
        "justfile",
        "systemd/fusiond.service",
        "tests/tree.py",
    ):
        assert (unpacked / name).exists(), name
    programs = install(tmp_path, [f"{unpacked}[local,test]"])
    told = run(
        *(programs / "pytest", "-q", "tests/supervision", "tests/routing", "tests/config", "tests/storage"),
        *("tests/test_readme.py", "tests/fusionctl/test_life.py", "tests/fusionctl/test_service.py"),
        cwd=unpacked,
        **({"FUSION_TEST_MODEL": found} if (found := os.environ.get("FUSION_TEST_MODEL")) else {}),
    )
    assert " passed" in told
    assert " failed" not in told
