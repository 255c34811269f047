"""The units that `fusionctl service` writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusionctl import units
from tests.tree import ROOT, Tree

NAMES = {
    "/etc/sysusers.d/fusion.conf": "fusion.sysusers.conf",
    "/etc/tmpfiles.d/fusion.conf": "fusion.tmpfiles.conf",
    "/etc/systemd/system/fusiond.service": "fusiond.service",
    ".config/systemd/user/fusiond.service": "fusiond.user.service",
}


@pytest.mark.parametrize("file", [*units.system("/usr/bin/fusiond"), *units.user("/usr/bin/fusiond")])
def test_the_source_holds_what_would_be_written(file: units.File) -> None:
    assert (ROOT / "systemd" / NAMES[file.path]).read_text() == file.text


def test_a_path_with_spaces_and_what_systemd_would_expand_is_kept(tree: Tree) -> None:
    (unit,) = units.user('/opt/my $fusion/100%/"bin"/fusiond')
    assert 'ExecStart="/opt/my $$fusion/100%%/\\"bin\\"/fusiond"\n' in unit.text


def test_a_dry_run_shows_all_and_writes_nothing(tree: Tree) -> None:
    home = {"HOME": str(tree.home)}
    shown = tree.run("service", "install", "--user", "--dry-run", **home)
    assert shown.returncode == 0, shown.stderr
    assert f"# {tree.home}/.config/systemd/user/fusiond.service\n" in shown.stdout
    assert "Type=notify" in shown.stdout
    assert "systemctl --user daemon-reload" in shown.stdout
    assert not (tree.home / ".config").exists()


def test_what_is_not_installed_is_not_removed(tree: Tree) -> None:
    done = tree.run("service", "uninstall", "--user", "--dry-run", HOME=str(tree.home))
    assert (done.returncode, done.stdout) == (0, "nothing is installed\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_only_root_installs_for_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    from fusionctl.commands import service
    from fusiond.errors import Denied

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Denied, match="for root to install"):
        service._permit(user=False)


def test_a_program_in_a_home_folder_is_refused_for_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    from fusionctl.commands import service
    from fusiond.errors import ConfigError

    monkeypatch.setattr(Path, "exists", lambda self: True)
    monkeypatch.setattr("sys.executable", "/home/me/venv/bin/python3")
    with pytest.raises(ConfigError, match="home folder"):
        service._program(user=False)
    assert service._program(user=True) == "/home/me/venv/bin/fusiond"
