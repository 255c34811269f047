"""`health` on a terminal."""

from __future__ import annotations

import json
import os
import signal

from tests.fusionctl.terminal import ended, terminal
from tests.tree import Tree


def test_health_has_colours_on_a_terminal_unless_that_is_not_wanted(tree: Tree) -> None:
    tree.start()
    with terminal(tree, "health") as child:
        child.expect("\x1b\\[32mactive")
        ended(child)
    tree.environment |= {"NO_COLOR": "1"}
    with terminal(tree, "health") as child:
        child.expect("✅ router +active")
        ended(child)
        assert "\x1b[32m" not in child.before
    assert "\x1b" not in tree.run("health").stdout


def test_the_live_view_marks_what_changed_and_survives_the_daemon(tree: Tree) -> None:
    tree.start()
    with terminal(tree, "health", "--watch", "0.1") as child:
        child.expect("✅ store")
        tree.ok("kill", "store")
        child.expect("▶ [^\n]*✅ store")
        child.expect("killed by SIGKILL, ready again in")
        supervisor = tree.supervisor
        assert supervisor is not None
        os.kill(supervisor, signal.SIGKILL)
        child.expect("down")
        child.expect("no daemon is running")
        tree.run("start")
        child.expect(f"pid {tree.supervisor}")
        child.sendintr()
        assert ended(child) == 130
        assert child.before.rstrip().endswith("\x1b[?25h")  # the cursor is back


def test_the_live_view_stays_in_its_place_on_a_small_screen(tree: Tree) -> None:
    tree.start()
    with terminal(tree, "health", "--watch", "0.1", columns=30, rows=4) as child:
        child.expect("\x1b\\[3A\r")  # three lines fit: up by three, and again
        shown = child.before.split("\x1b[?25l")[-1].split("\r\n")
        assert len(shown) == 4
        child.sendintr()
        ended(child)


def test_the_live_view_as_json_is_a_document_a_line(tree: Tree) -> None:
    tree.start()
    watching = tree.popen("health", "--watch", "0.1", "--json")
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["supervisor"]["pid"] == tree.supervisor
    tree.ok("stop")
    while json.loads(watching.stdout.readline()) != {"status": "down"}:
        pass
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=10)
    assert watching.returncode == 130
