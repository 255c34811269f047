from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil

from fusiond.runtime import linux


def test_usage_is_what_psutil_says() -> None:
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    told, used = psutil.Process(), linux.usage(os.getpid())
    assert used is not None
    times = told.cpu_times()
    assert abs(used.cpu_s - times.user - times.system) < 0.5
    assert abs(used.age_s - (time.time() - told.create_time())) < 2


def test_the_usage_of_a_process_that_is_gone_is_none() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert linux.usage(gone.pid) is None
    assert linux.rss(gone.pid) == 0


def test_a_daemon_that_is_started_for_a_home_imports_neither_the_parser_of_options_nor_psutil() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "fusiond", "--home", ""],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "fusiond: --home is empty" in done.stderr
    assert "| click" not in done.stderr
    loaded = "import fusiond.daemon, sys; print('psutil' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", loaded], text=True) == "False\n"
