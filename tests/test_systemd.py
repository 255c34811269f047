"""The service under a real systemd."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.systemd_box import Box, booted, why_not
from tests.tree import eventually

pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
    pytest.mark.timeout(240),
]

CONFIG = 'model = "lab/none"\n[providers.lab]\nbase_url = "http://127.0.0.1:9/v1"\n'


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with booted(tmp_path_factory.mktemp("systemd")) as box:
        box.ok("fusionctl service install")
        box.ok(f"printf '%s' '{CONFIG}' > /etc/fusion/config.toml && chgrp fusion /etc/fusion/config.toml")
        box.ok("systemctl enable --now fusiond")
        yield box


def serves(box: Box) -> bool:
    return "healthy" in box.run("fusionctl health").stdout


def test_it_starts_is_ready_and_says_how_it_is(box: Box) -> None:
    assert box.ok("systemctl is-active fusiond").strip() == "active"
    assert "StatusText=healthy" in box.ok("systemctl show fusiond -p StatusText")
    assert serves(box)


def test_it_is_hardened(box: Box) -> None:
    (exposure,) = re.findall(
        r"exposure level for fusiond.service: ([0-9.]+)",
        box.ok("systemd-analyze security fusiond --no-pager"),
    )
    assert float(exposure) <= 2.5


def test_tools_and_mcp_servers_work_within_its_bounds(box: Box) -> None:
    assert "Thursday" in (told := box.ok("fusionctl mcp call fusion time '{}'")) or "day" in told
    outcome = box.ok("fusionctl tools call list_files '{}'")
    assert outcome.strip() == "nothing"
    shell = box.run('fusionctl tools call shell \'{"command": "id -un; touch /etc/x"}\' --yes')
    assert "fusion" in shell.stdout + shell.stderr
    assert box.run("test -e /etc/x").returncode == 1


def test_it_is_back_when_its_main_process_is_killed(box: Box) -> None:
    pid = box.main_pid()
    box.ok(f"kill -9 {pid}")
    assert eventually(lambda: box.main_pid() not in (0, pid) and serves(box))


def test_the_watchdog_ends_it_when_its_main_process_is_stopped(box: Box) -> None:
    pid = box.main_pid()
    box.ok(f"kill -STOP {pid}")
    assert eventually(lambda: box.main_pid() not in (0, pid) and serves(box), within=40)


def test_a_reload_takes_the_configuration_and_keeps_the_process(box: Box) -> None:
    pid = box.main_pid()
    box.ok("sed -i '1i log_level = \"DEBUG\"' /etc/fusion/config.toml")
    box.ok("systemctl reload fusiond")
    assert box.main_pid() == pid
    eventually(lambda: "reloaded" in box.ok("grep -h reloaded /var/lib/fusion/events.jsonl || true"))


def test_nothing_is_left_when_it_is_stopped(box: Box) -> None:
    box.ok("systemctl stop fusiond")
    assert box.run("cat /sys/fs/cgroup/system.slice/fusiond.service/cgroup.procs").stdout == ""
    assert box.run("pgrep -f ^fusiond:").stdout == ""
    box.ok("systemctl start fusiond")
    assert serves(box)


def test_uninstall_removes_what_install_wrote(box: Box) -> None:
    box.ok("fusionctl service uninstall")
    assert box.run("systemctl is-active fusiond").stdout.strip() != "active"
    assert box.run("test -e /etc/systemd/system/fusiond.service").returncode == 1
    assert box.run("test -e /var/lib/fusion/fusion.db").returncode == 0
