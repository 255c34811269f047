"""A child that cannot start backs off, fails, is probed, and takes nobody with it."""

from __future__ import annotations

from pathlib import Path

from tests.tree import Tree, eventually


def test_a_model_file_that_is_gone_is_said_in_its_own_words_and_hurts_nobody(tree: Tree, home: Path) -> None:
    model = home / "mine.gguf"
    model.write_bytes(b"GGUF" + bytes(100))
    tree.ok("models", "add", "mine", str(model))
    model.unlink()
    tree.configure('model = "local/mine"\n')
    tree.start()
    eventually(lambda: tree.actor("llm.0")["state"] == "failed")
    llm = tree.actor("llm.0")
    assert str(model) in llm["last_exit"]["detail"]
    assert tree.run("health").returncode == 1
    assert "mine.gguf" in tree.run("health").stdout
    others = [actor for actor in tree.json("health")["actors"] if actor["kind"] != "llm"]
    assert {actor["state"] for actor in others} == {"ready"}
    assert sum(actor["restarts"] for actor in others) == 0


def test_a_second_daemon_on_one_home_is_refused_and_told_who_holds_it(tree: Tree) -> None:
    tree.start()
    second = tree.run("start", "--foreground")
    assert second.returncode != 0
    assert str(tree.supervisor) in second.stderr + second.stdout


def test_what_a_dead_daemon_left_behind_does_not_disturb(tree: Tree, home: Path) -> None:
    run = home / "run"
    run.mkdir(mode=0o700)
    for name in ("router.sock", "supervisor.sock", "actors.sock"):
        (run / name).write_text("left behind")
    (run / "fusiond.lock").write_text("1\n")
    tree.start()
    assert tree.json("health")["supervisor"]["pid"] == tree.supervisor
