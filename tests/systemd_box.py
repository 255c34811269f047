"""A real systemd in namespaces of its own, over a throw-away overlay of this machine's root. Nothing of it stays.

`/opt/fusion` in it holds this source and what it needs, on the system's own Python: no service may read home folders.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.tree import ROOT

PYTHON = "/usr/bin/python3"
_MASKED = (
    "console-getty",
    "getty@tty1",
    "serial-getty@ttyS0",
    "systemd-logind",
    "postgresql",
    "redis-server",
    "runit",
)
_BOOT = """\
set -e
work=$1
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"
cd "$work/root"
mount -t proc proc proc; mount -t sysfs sysfs sys; mount --rbind /dev dev
mount -t tmpfs tmpfs run; mount -t tmpfs tmpfs tmp; mount -t cgroup2 none sys/fs/cgroup
for unit in $2; do ln -sf /dev/null "etc/systemd/system/$unit.service"; done
ln -sf /dev/null etc/systemd/system/getty.target
mkdir -p oldroot; pivot_root . oldroot; umount -l /oldroot
mount --make-rshared /
export container=lxc
exec /lib/systemd/systemd --system --unit=multi-user.target --log-level=warning --show-status=0
"""
_BOOT_S = 40.0


def why_not() -> str:
    """Why there can be none here, "" if there can."""
    if os.geteuid() != 0:
        return "only root can boot a systemd in namespaces"
    for path in ("/lib/systemd/systemd", PYTHON):
        if not Path(path).exists():
            return f"{path} is not there"
    ours, theirs = (
        sysconfig.get_python_version(),
        subprocess.run(
            [PYTHON, "-c", "import sysconfig; print(sysconfig.get_python_version())"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip(),
    )
    return "" if ours == theirs else f"{PYTHON} is Python {theirs}, and what is installed here is for {ours}"


class Box:
    """A booted one. `mounted`: where what is written in it is kept."""

    def __init__(self, mounted: Path) -> None:
        self._mounted = mounted
        self._outer: subprocess.Popen[bytes] | None = None
        self._enter: list[str] = []
        self.boot()

    def boot(self) -> None:
        """Returns when its systemd has started what it starts."""
        namespaces = ["unshare", "--kill-child", "--pid", "--fork", "--mount", "--cgroup", "--uts", "--ipc"]
        self._outer = subprocess.Popen(
            [*namespaces, "bash", "-c", _BOOT, "_", str(self._mounted), " ".join(_MASKED)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + _BOOT_S
        while time.monotonic() < until and self._outer.poll() is None:
            pid = self._outer.pid
            if children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                self._enter = ["nsenter", "-t", children[0], "-m", "-p", "-u", "-i", "-C"]
                if self.run("systemctl is-system-running").stdout.strip() in ("running", "degraded"):
                    return
            time.sleep(0.1)
        raise AssertionError("systemd did not boot")

    def cut_power(self) -> None:
        """All that runs in it is gone at once; what was written stays."""
        if self._outer is not None:
            self._outer.kill()
            self._outer.wait()
            self._outer = None

    def write(self, path: str, text: str) -> None:
        """A file in it, readable for all."""
        subprocess.run(
            [*self._enter, "sh", "-c", f"umask 022; cat > '{path}'"], input=text, text=True, check=True
        )

    def put(self, file: Path, folder: str) -> None:
        """A copy of a file of ours in a folder of it."""
        with file.open("rb") as source:
            command = [*self._enter, "sh", "-c", f"umask 022; cat > '{folder}/{file.name}'"]
            subprocess.run(command, stdin=source, check=True)

    def run(self, command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """A command of sh in it, as root."""
        return subprocess.run(
            [
                *self._enter,
                "env",
                "-i",
                "PATH=/opt/fusion/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "sh",
                "-c",
                command,
            ],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def ok(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def main_pid(self) -> int:
        """Of the service, 0 without one."""
        return int(self.ok("systemctl show fusiond -p MainPID --value"))


@contextmanager
def booted(work: Path) -> Iterator[Box]:
    """`work`: an empty folder, for what is written in it."""
    mounted = work / "box"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mounted], check=True)
    box = None
    try:
        for name in ("upper", "work", "root"):
            (mounted / name).mkdir()
        _install(mounted / "upper" / "opt" / "fusion")
        box = Box(mounted)
        yield box
    finally:
        if box is not None:
            box.cut_power()
        subprocess.run(["umount", "-l", mounted], check=True)


def _install(folder: Path) -> None:
    """What is installed here, and this source, on the system's Python."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", "--symlinks", folder], check=True)
    packages = next(folder.glob("lib/python3*/site-packages"))
    ours = Path(sysconfig.get_path("purelib"))
    left_out = shutil.ignore_patterns(
        "__editable__*", "mypy*", "ruff*", "pip", "hypothesis", "*.dist-info/RECORD"
    )
    shutil.copytree(ours, packages, dirs_exist_ok=True, ignore=left_out)
    for package in ("fusiond", "fusionctl"):
        shutil.copytree(ROOT / package, packages / package, dirs_exist_ok=True)
        script = folder / "bin" / package
        module = "fusiond.__main__" if package == "fusiond" else "fusionctl.cli"
        script.write_text(f"#!/opt/fusion/bin/python3\nfrom {module} import main\nmain()\n")
        script.chmod(0o755)
    for script in (folder / "bin").glob("[Aa]ctivate*"):
        script.unlink()
