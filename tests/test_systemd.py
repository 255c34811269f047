"""The service under a real systemd."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.fusionctl.counting_model import CountingModel
from tests.fusionctl.gated_model import GatedModel
from tests.providers.embedded import model_file
from tests.systemd_box import Box, booted, why_not
from tests.tree import eventually

pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
    pytest.mark.timeout(240),
]

CONFIG = """\
model = "lab/echo"
[providers.lab]
base_url = "{lab}"
api_key_env = "LAB_KEY"
[providers.counting]
base_url = "{counting}"
"""
KEY = "key-from-a-credential"
SOUGHT = "key-from-a-[c]redential"  # not to be found where it is sought
CGROUP = "/sys/fs/cgroup/system.slice/fusiond.service"
NODE_SERVER = """\
const say = (id, result) => process.stdout.write(JSON.stringify({jsonrpc: "2.0", id, result}) + "\\n");
const answers = {
  initialize: (asked) => ({protocolVersion: asked.protocolVersion, capabilities: {tools: {}},
                           serverInfo: {name: "node", version: "1"}}),
  "tools/list": () => ({tools: [{name: "version", inputSchema: {type: "object"}}]}),
  "tools/call": () => ({content: [{type: "text", text: `node ${process.version}`}]}),
};
require("readline").createInterface({input: process.stdin}).on("line", (line) => {
  const {id, method, params} = JSON.parse(line);
  if (id === undefined) return;
  if (answers[method]) say(id, answers[method](params));
  else process.stdout.write(JSON.stringify({jsonrpc: "2.0", id, error: {code: -32601, message: "no"}}) + "\\n");
});
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[GatedModel]:
    with closing(GatedModel()) as model:
        yield model


@pytest.fixture(scope="module")
def counting() -> Iterator[CountingModel]:
    with closing(CountingModel(delay=0.05)) as model:
        yield model


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, lab: GatedModel, counting: CountingModel) -> Iterator[Box]:
    with booted(tmp_path_factory.mktemp("systemd")) as box:
        box.ok("fusionctl service install")
        box.write("/etc/fusion/config.toml", CONFIG.format(lab=lab.base_url, counting=counting.base_url))
        box.write("/etc/fusion/keys/lab", KEY)
        box.ok("chmod 600 /etc/fusion/keys/lab; mkdir /etc/systemd/system/fusiond.service.d")
        drop_in = "[Service]\nLoadCredential=LAB_KEY:/etc/fusion/keys/lab\n"
        box.write("/etc/systemd/system/fusiond.service.d/keys.conf", drop_in)
        box.ok("useradd -m -G fusion ann; useradd -m -G fusion,fusion-operators olga; useradd -m eve")
        box.ok("systemctl daemon-reload; systemctl enable --now fusiond")
        yield box


def serves(box: Box) -> bool:
    """It is healthy, and systemd knows."""
    told = box.run("systemctl is-active fusiond; fusionctl health").stdout
    return told.startswith("active\n") and "healthy" in told


def as_user(box: Box, user: str, command: str) -> subprocess.CompletedProcess[str]:
    return box.run(f"su {user} -s /bin/sh -c 'cd; PATH=/opt/fusion/bin:$PATH {command}'")


def change_config(box: Box, script: str) -> None:
    box.ok(f"sed -i '{script}' /etc/fusion/config.toml && systemctl reload fusiond")


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


def test_a_key_comes_as_a_credential_and_is_seen_by_the_provider_alone(box: Box, lab: GatedModel) -> None:
    assert box.ok("fusionctl chat 'one two'") == "You said: one two\n"
    assert lab.keys[-1] == f"Bearer {KEY}"
    seen = box.run(
        f"grep -l '{SOUGHT}' /proc/[0-9]*/environ /proc/[0-9]*/cmdline; grep -r '{SOUGHT}' /var/lib/fusion /run/fusion"
    )
    assert seen.stdout == ""


def test_tools_and_mcp_servers_work_within_its_bounds(box: Box) -> None:
    assert "day" in box.ok("fusionctl mcp call fusion time '{}'")
    outcome = box.ok("fusionctl tools call list_files '{}'")
    assert outcome.strip() == "nothing"
    shell = box.run('fusionctl tools call shell \'{"command": "id -un; touch /etc/x"}\' --yes')
    assert "fusion" in shell.stdout + shell.stderr
    assert box.run("test -e /etc/x").returncode == 1


@pytest.mark.skipif(shutil.which("node", path="/usr/bin:/bin") is None, reason="there is no Node here")
def test_an_mcp_server_in_node_works_within_its_bounds(box: Box) -> None:
    box.write("/opt/server.js", NODE_SERVER)
    box.ok(
        'printf \'[mcp.servers.js]\\ncommand = "node"\\nargs = ["/opt/server.js"]\\n\' >> /etc/fusion/config.toml'
    )
    box.ok("systemctl reload fusiond")
    assert box.ok("fusionctl mcp call js version '{}'").startswith("node v")


@pytest.mark.model
def test_the_embedded_model_works_within_its_bounds(box: Box) -> None:
    box.ok("install -d -o fusion -g fusion /var/cache/fusion/models")
    box.put(model_file(), "/var/cache/fusion/models/")
    change_config(box, 's|^model = .*|model = "local/smollm2"|')
    assert box.ok("fusionctl chat 'Say hello.' -o max_tokens 8").strip()
    change_config(box, 's|^model = .*|model = "lab/echo"|')


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
    assert as_user(box, "ann", "fusionctl chat one-two").stdout == "You said: one-two\n"
    (session,) = json.loads(as_user(box, "ann", "fusionctl sessions list --json").stdout)
    assert session["title"] == "one-two"
    assert as_user(box, "ann", "fusionctl events").returncode == 0
    for order in ("kill router", "restart llm.0", "reload"):
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


def test_the_group_of_operators_is_what_the_configuration_says(box: Box) -> None:
    box.ok("printf '[access]\\noperators = \"mail\"\\n' >> /etc/fusion/config.toml; fusionctl reload")
    assert as_user(box, "olga", "fusionctl kill agent.0").returncode == 77
    box.ok("sed -i '/^.access/,$d' /etc/fusion/config.toml; fusionctl reload")
    assert as_user(box, "olga", "fusionctl kill agent.0").returncode == 0


def test_a_job_is_its_owners_and_the_operators(box: Box, counting: CountingModel) -> None:
    counting.gate.clear()
    ann = as_user(box, "ann", "echo hello > jobs.txt; fusionctl batch jobs.txt -m counting/x --detach")
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
    counting.gate.set()


def test_what_it_logs_is_in_the_journal_with_priority_and_actor(box: Box) -> None:
    change_config(box, '1i log_level = "DEBUG"')
    box.ok("fusionctl chat hello")
    records = [json.loads(line) for line in box.ok("journalctl -u fusiond -o json --no-pager").splitlines()]
    told = {(record.get("FUSION_ACTOR"), record["PRIORITY"]) for record in records}
    assert {("router", "7"), ("agent.0", "7"), ("store", "7"), ("supervisor", "6")} <= told
    assert {record["SYSLOG_IDENTIFIER"] for record in records} >= {"fusiond/router", "fusiond/supervisor"}
    (asked,) = [each for each in records if each["MESSAGE"].startswith("agent/chat, asked by")]
    request = re.findall(r"request ([0-9a-f]+)", asked["MESSAGE"])[0]
    of_it = box.ok(f"fusionctl logs --request {request}")
    assert {"router", "agent.0", "store", "llm.0"} <= {line.split()[1] for line in of_it.splitlines()}
    refused = as_user(box, "ann", "fusionctl logs")
    assert refused.returncode == 77
    assert "systemd-journal" in refused.stderr


def test_the_stacks_of_what_hangs_are_in_the_journal(box: Box) -> None:
    box.ok("fusionctl kill agent.0 --fault block")
    told = box.ok("journalctl -u fusiond FUSION_ACTOR=agent.0 -o cat --no-pager")
    assert "no sign of life" in told
    assert "most recent call first" in told


def test_each_of_its_processes_is_replaced_when_it_is_killed(box: Box) -> None:
    before = json.loads(box.ok("fusionctl health --json"))["actors"]
    for actor in before:
        box.ok(f"kill -9 {actor['pid']}")
    eventually(lambda: serves(box))
    after = json.loads(box.ok("fusionctl health --json"))["actors"]
    assert not {actor["pid"] for actor in before} & {actor["pid"] for actor in after}
    assert box.ok("fusionctl chat 'still there'") == "You said: still there\n"


def test_it_is_back_when_its_main_process_is_killed_and_whoever_asks_waits_for_it(box: Box) -> None:
    pid = box.main_pid()
    told = box.run(f"kill -9 {pid}; fusionctl chat 'still there'")
    assert (told.returncode, told.stdout) == (0, "You said: still there\n"), told.stderr
    assert "starting the daemon" not in told.stderr
    assert box.main_pid() not in (0, pid)


def test_its_processes_are_seen_with_what_they_take(box: Box) -> None:
    eventually(lambda: serves(box))
    actors = json.loads(box.ok("fusionctl health --json"))["actors"]
    assert all(actor["rss_bytes"] > 0 for actor in actors)


@pytest.mark.parametrize("whom", ["its main process", "all of it"])
def test_the_watchdog_ends_it_when_it_is_stopped(box: Box, whom: str) -> None:
    pid = box.main_pid()
    box.run(f"kill -STOP {pid if whom == 'its main process' else f'$(cat {CGROUP}/cgroup.procs)'}")
    assert eventually(lambda: box.main_pid() not in (0, pid) and serves(box), within=40)
    assert box.ok("fusionctl chat 'still there'") == "You said: still there\n"


def test_it_is_back_when_all_of_it_is_killed(box: Box) -> None:
    pid = box.main_pid()
    box.run(f"kill -9 $(cat {CGROUP}/cgroup.procs)")  # some of them end with another
    assert eventually(lambda: box.main_pid() not in (0, pid) and serves(box))


def test_a_reload_takes_the_configuration_and_keeps_the_process(box: Box) -> None:
    def reloads() -> int:
        return box.ok("fusionctl events").count(" reloaded")

    pid, before = box.main_pid(), reloads()
    change_config(box, 's/^log_level.*/log_level = "WARNING"/')
    assert box.main_pid() == pid
    eventually(lambda: reloads() == before + 1)


def test_a_reload_after_an_upgrade_takes_the_new_code_and_keeps_the_process(box: Box) -> None:
    pid = box.main_pid()
    file = box.ok("echo /opt/fusion/lib/python3*/site-packages/fusiond/__init__.py").strip()
    box.ok(f"sed -i 's/0.1.0/0.1.1/' {file}; systemctl reload fusiond")
    eventually(lambda: "fusiond 0.1.1" in box.run("fusionctl health").stdout)
    eventually(lambda: serves(box))
    assert box.main_pid() == pid
    assert box.ok("systemctl is-active fusiond").strip() == "active"
    assert box.ok("fusionctl chat 'still there'") == "You said: still there\n"


def begin_batch(box: Box, count: int, word: str) -> str:
    """The id of a job under way, with some of its items answered."""
    box.ok(f"seq 1 {count} | sed 's/^/{word} /' > /root/{word}.txt")
    box.ok(f"fusionctl batch /root/{word}.txt -m counting/x --detach")
    (job,) = [job for job in jobs(box) if job["source"].endswith(f"{word}.txt")]
    eventually(lambda: completed(box, job["id"]) > 20)
    return str(job["id"])


def jobs(box: Box) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(box.ok("fusionctl batches list --json"))
    return found


def completed(box: Box, id: str) -> int:
    return int(json.loads(box.ok(f"fusionctl batches show {id} --json"))["request_counts"]["completed"])


def check_results(box: Box, id: str, count: int) -> None:
    box.ok(f"fusionctl batches watch {id}")
    results = [json.loads(line) for line in box.ok(f"fusionctl batches results {id}").splitlines()]
    assert [result["custom_id"] for result in results] == [f"line-{n:06}" for n in range(1, count + 1)]
    assert not [result for result in results if result["error"]]


def test_nothing_is_left_when_it_is_stopped_and_a_batch_goes_on_at_the_next_start(box: Box) -> None:
    job = begin_batch(box, 3000, "stopped")
    box.ok("systemctl stop fusiond")
    assert box.run(f"cat {CGROUP}/cgroup.procs").stdout == ""
    assert box.run("pgrep -f ^fusiond:").stdout == ""
    box.ok("systemctl start fusiond")
    assert completed(box, job) < 3000  # it was in the middle
    check_results(box, job, 3000)


def test_a_batch_goes_on_after_a_power_cut_in_the_middle(box: Box) -> None:
    job = begin_batch(box, 3000, "cut")
    box.cut_power()
    box.boot()
    eventually(lambda: serves(box), within=20)
    assert completed(box, job) < 3000
    check_results(box, job, 3000)


def test_a_user_has_a_service_of_ones_own(box: Box, lab: GatedModel) -> None:
    box.ok("install -d -o ann /run/user/$(id -u ann) && systemctl start user@$(id -u ann)")
    box.ok("mkdir -p /home/ann/.config/fusion")
    box.write("/home/ann/.config/fusion/config.toml", lab.configuration)
    box.ok("chown -R ann /home/ann/.config")

    def ann(command: str) -> str:
        done = as_user(box, "ann", f"XDG_RUNTIME_DIR=/run/user/$(id -u) {command}")
        assert done.returncode == 0, done.stderr
        return done.stdout

    ann("fusionctl service install --user")
    ann("systemctl --user enable --now fusiond")
    assert ann("fusionctl chat hello") == "You said: hello\n"
    pid = ann("systemctl --user show -p MainPID --value fusiond").strip()
    assert f"pid {pid} " in ann("fusionctl health")
    box.ok(f"kill -9 {pid}")
    assert ann("fusionctl chat again") == "You said: again\n"
    now = ann("systemctl --user show -p MainPID --value fusiond").strip()
    assert now not in ("0", pid)  # systemd's, and none that the chat has started
    assert f"pid {now} " in ann("fusionctl health")
    assert "fusiond test/echo" in ann("fusionctl logs")
    ann("fusionctl service uninstall --user")
    box.ok("systemctl stop user@$(id -u ann)")


def test_a_wrong_configuration_is_said_and_mended_without_a_start(box: Box, lab: GatedModel) -> None:
    good = box.ok("cat /etc/fusion/config.toml")
    box.write("/etc/fusion/config.toml", "modle = 1\n")
    box.ok(f"kill -9 {box.main_pid()}")
    eventually(lambda: "did you mean model" in box.ok("systemctl show fusiond -p StatusText"), within=10)
    box.write("/etc/fusion/config.toml", good)
    eventually(lambda: serves(box), within=10)


def test_fusionctl_stops_it_by_systemd(box: Box) -> None:
    refused = as_user(box, "olga", "fusionctl stop")
    assert refused.returncode == 77
    assert "systemctl stop fusiond" in refused.stderr
    assert serves(box)
    assert "stopped: pid" in box.ok("fusionctl stop")
    assert box.run("systemctl is-active fusiond").stdout.strip() == "inactive"
    box.ok("systemctl start fusiond")


def test_uninstall_removes_what_install_wrote(box: Box) -> None:
    box.ok("fusionctl service uninstall")
    assert box.run("systemctl is-active fusiond").stdout.strip() != "active"
    assert box.run("test -e /etc/systemd/system/fusiond.service").returncode == 1
    assert box.run("test -e /var/lib/fusion/fusion.db").returncode == 0
