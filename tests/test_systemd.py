"""The service under a real systemd."""

from __future__ import annotations

import json
import re
import subprocess
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
        box.ok("useradd -m -G fusion ann; useradd -m -G fusion,fusion-operators olga; useradd -m eve")
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


def as_user(box: Box, user: str, command: str) -> subprocess.CompletedProcess[str]:
    return box.run(f"su {user} -s /bin/sh -c 'cd; PATH=/opt/fusion/bin:$PATH {command}'")


def test_its_sockets_are_open_to_its_group_and_to_nobody_else(box: Box) -> None:
    told = box.ok(
        "stat -c '%a %U:%G %n' /run/fusion /run/fusion/*.sock /var/lib/fusion/fusion.db"
    ).splitlines()
    assert told == [
        "750 fusion:fusion /run/fusion",
        "600 fusion:fusion /run/fusion/actors.sock",
        "660 fusion:fusion /run/fusion/router.sock",
        "660 fusion:fusion /run/fusion/supervisor.sock",
        "600 fusion:fusion /var/lib/fusion/fusion.db",
    ]


def test_a_member_of_its_group_uses_it_and_gives_no_orders(box: Box) -> None:
    assert as_user(box, "ann", "fusionctl health").returncode == 0
    assert as_user(box, "ann", "fusionctl sessions list").returncode == 0
    assert as_user(box, "ann", "fusionctl events").returncode == 0
    for order in ("kill router", "restart llm.0", "reload", "stop"):
        refused = as_user(box, "ann", f"fusionctl {order}")
        assert refused.returncode == 77, order
        assert "ann may not" in refused.stderr
    assert as_user(box, "ann", "fusionctl health").returncode == 0


def test_an_outsider_is_refused(box: Box) -> None:
    refused = as_user(box, "eve", "fusionctl --no-autostart sessions list")
    assert refused.returncode == 77
    assert "not open to you" in refused.stderr


def test_an_operator_gives_orders_and_they_are_in_the_audit_log_like_the_refusals(box: Box) -> None:
    assert as_user(box, "olga", "fusionctl kill llm.0").returncode == 0
    assert as_user(box, "olga", "fusionctl restart agent.0").returncode == 0
    told = box.ok("fusionctl events --audit")
    assert "SIGKILL, by olga" in told
    assert "restart agent.0, by olga" in told
    assert "ann may not kill" in told


def test_a_job_is_its_owners_and_the_operators(box: Box) -> None:
    ann = as_user(box, "ann", "echo hello > jobs.txt; fusionctl batch jobs.txt --detach")
    assert ann.returncode == 0, ann.stderr
    box.ok("usermod -aG fusion eve")
    (job,) = json.loads(as_user(box, "ann", "fusionctl batches list --json").stdout)
    assert json.loads(as_user(box, "eve", "fusionctl batches list --json").stdout) == []
    assert as_user(box, "eve", f"fusionctl batches cancel {job['id']}").returncode == 2
    (seen,) = json.loads(as_user(box, "olga", "fusionctl batches list --json").stdout)
    assert seen["id"] == job["id"]
    assert as_user(box, "olga", f"fusionctl batches cancel {job['id']}").returncode == 0
    assert "cancel, by olga" in box.ok("fusionctl events --audit")
    box.ok("gpasswd -d eve fusion")


def test_what_it_logs_is_in_the_journal_with_priority_and_actor(box: Box) -> None:
    box.ok("sed -i '1i log_level = \"DEBUG\"' /etc/fusion/config.toml && systemctl reload fusiond")
    box.run("fusionctl chat hello")
    records = [json.loads(line) for line in box.ok("journalctl -u fusiond -o json --no-pager").splitlines()]
    told = {(record.get("FUSION_ACTOR"), record["PRIORITY"]) for record in records}
    assert {("router", "7"), ("agent.0", "7"), ("store", "7"), ("supervisor", "6")} <= told
    assert {record["SYSLOG_IDENTIFIER"] for record in records} >= {"fusiond/router", "fusiond/supervisor"}
    (asked,) = [each for each in records if each["MESSAGE"].startswith("agent/chat, asked by")]
    request = re.findall(r"request ([0-9a-f]+)", asked["MESSAGE"])[0]
    of_it = box.ok(f"fusionctl logs --request {request}")
    assert {"router", "agent.0", "store", "llm.0"} <= {line.split()[1] for line in of_it.splitlines()}
    assert (
        "no permission" in (refused := as_user(box, "ann", "fusionctl logs")).stderr.lower()
        or refused.returncode
    )


def test_the_stacks_of_what_hangs_are_in_the_journal(box: Box) -> None:
    box.ok("fusionctl kill agent.0 --fault block")
    told = box.ok("journalctl -u fusiond FUSION_ACTOR=agent.0 -o cat --no-pager")
    assert "no sign of life" in told
    assert "most recent call first" in told


def test_it_is_back_when_its_main_process_is_killed(box: Box) -> None:
    pid = box.main_pid()
    box.ok(f"kill -9 {pid}")
    assert eventually(lambda: box.main_pid() not in (0, pid) and serves(box))


def test_the_watchdog_ends_it_when_its_main_process_is_stopped(box: Box) -> None:
    pid = box.main_pid()
    box.ok(f"kill -STOP {pid}")
    assert eventually(lambda: box.main_pid() not in (0, pid) and serves(box), within=40)


def test_a_reload_takes_the_configuration_and_keeps_the_process(box: Box) -> None:
    def reloads() -> int:
        return box.ok("fusionctl events").count(" reloaded")

    pid, before = box.main_pid(), reloads()
    box.ok("""sed -i '/^log_level/d; 1i log_level = "WARNING"' /etc/fusion/config.toml""")
    box.ok("systemctl reload fusiond")
    assert box.main_pid() == pid
    eventually(lambda: reloads() == before + 1)


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
