from __future__ import annotations

from pathlib import Path

import pytest

from fusionctl.service_manager import unit
from fusiond.paths import JOURNAL_MARKER, resolve


@pytest.mark.parametrize(
    ("marker", "systemctl", "journalctl"),
    [
        (
            "fusiond.service",
            ["systemctl", "stop", "fusiond.service"],
            ["journalctl", "--unit=fusiond.service"],
        ),
        (
            "--user fusiond.service",
            ["systemctl", "--user", "stop", "fusiond.service"],
            ["journalctl", "--user", "--user-unit=fusiond.service"],
        ),
    ],
)
def test_a_service_of_the_system_or_of_a_user_is_spoken_of_to_its_own_manager(
    tmp_path: Path, marker: str, systemctl: list[str], journalctl: list[str]
) -> None:
    home = resolve(tmp_path)
    home.logs.mkdir(parents=True)
    (home.logs / JOURNAL_MARKER).write_text(marker)
    service = unit(home)
    assert service is not None
    assert service.systemctl("stop") == systemctl
    assert service.journalctl() == journalctl


def test_a_daemon_whose_unit_the_full_disk_did_not_let_it_write_down_is_no_service(tmp_path: Path) -> None:
    home = resolve(tmp_path)
    home.logs.mkdir(parents=True)
    assert unit(home) is None
    (home.logs / JOURNAL_MARKER).touch()
    assert unit(home) is None
