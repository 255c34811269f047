"""What `pip install -U` and then `reload` do: the daemon begins anew with the code that is on disk by then."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.fusionctl.counting_model import CountingModel
from tests.fusionctl.gated_model import GatedModel
from tests.tree import ROOT, Tree, eventually


@pytest.fixture
def source(tmp_path: Path, tree: Tree) -> Path:
    """A copy of this source, which the daemon of `tree` and its `fusionctl` run."""
    for package in ("fusiond", "fusionctl"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    tree.environment["PYTHONPATH"] = str(tmp_path)
    return tmp_path


@pytest.fixture
def model(tree: Tree) -> Iterator[GatedModel]:
    model = GatedModel()
    tree.configure(model.configuration)
    yield model
    model.close()


def install_version(source: Path, version: str) -> None:
    file = source / "fusiond" / "__init__.py"
    text = file.read_text()
    file.write_text(text.replace('"0.1.0"', f'"{version}"'))
    assert file.read_text() != text


def test_a_reload_begins_anew_with_the_new_code_under_the_same_pid(
    tree: Tree, model: GatedModel, source: Path
) -> None:
    tree.environment["MYLAB_TOKEN"] = "a-secret"
    tree.start()
    before = tree.json("health")
    install_version(source, "0.2.0")
    told = tree.ok("reload")
    assert told == f"reloaded with new code, everything replaced: fusiond 0.2.0, pid {tree.supervisor}\n"
    after = tree.json("health")
    assert (before["version"], after["version"]) == ("0.1.0", "0.2.0")
    assert after["supervisor"]["pid"] == before["supervisor"]["pid"]
    old = {actor["pid"] for actor in before["actors"]}
    assert not old & {actor["pid"] for actor in after["actors"]}
    assert tree.ok("chat", "hello") == "You said: hello\n"
    environment = psutil.Process(after["supervisor"]["pid"]).environ()
    assert "MYLAB_TOKEN" not in environment
    assert tree.ok("reload") == "reloaded, nothing changed\n"


def test_new_code_takes_over_in_the_middle_of_an_answer(tree: Tree, model: GatedModel, source: Path) -> None:
    words = " ".join(f"word{n}" for n in range(80))
    model.pace = 0.02
    tree.start()
    chat = tree.popen("chat", words)
    eventually(lambda: len(model.asked) > 0)
    install_version(source, "0.3.0")
    tree.ok("reload")
    assert tree.json("health")["version"] == "0.3.0"
    answer, errors = chat.communicate(timeout=60)
    assert (chat.returncode, answer) == (0, f"You said: {words}\n"), errors


def test_new_code_takes_over_in_the_middle_of_a_batch(tree: Tree, source: Path) -> None:
    with closing(CountingModel(delay=0.05)) as model:
        tree.configure(model.configuration)
        tree.start()
        (tree.home / "many.txt").write_text("".join(f"line {n} of many\n" for n in range(2000)))
        batch = tree.popen("batch", "many.txt", "-o", "out.jsonl", "--no-progress")
        eventually(lambda: len(model.asked) > 100)
        install_version(source, "0.3.0")
        tree.ok("reload")
        assert len(model.asked) < 2000  # it was in the middle
        assert tree.json("health")["version"] == "0.3.0"
        _, errors = batch.communicate(timeout=60)
    assert batch.returncode == 0, errors
    results = [json.loads(line) for line in (tree.home / "out.jsonl").read_text().splitlines()]
    assert [result["custom_id"] for result in results] == [f"line-{n:06}" for n in range(1, 2001)]
    assert not [result for result in results if result["error"]]


def test_a_stop_in_the_middle_of_beginning_anew_is_a_stop(
    tree: Tree, model: GatedModel, source: Path
) -> None:
    tree.configure(model.configuration + "[supervisor]\nshutdown_grace_s = 1.5\n")
    tree.start()
    model.close_gate(1)
    chat = tree.popen("--no-autostart", "chat", "one two three")  # what is drained waits for it
    assert model.waiting.wait(10)
    install_version(source, "0.2.0")
    reload = tree.popen("reload")
    eventually(lambda: '"kind":"reloaded"' in (tree.home / "state" / "events.jsonl").read_text())
    tree.ok("stop")
    assert tree.supervisor is None
    for process in (reload, chat):
        process.kill()
        process.communicate()
    model.gate.set()


@pytest.mark.parametrize("file", ["fusiond/actors/llm.py", "fusiond/daemon.py"])
def test_code_that_does_not_start_is_not_taken(
    tree: Tree, model: GatedModel, source: Path, file: str
) -> None:
    tree.start()
    before = tree.json("health")
    with (source / file).open("a") as code:
        code.write("\nthis is no Python\n")
    refused = tree.run("reload")
    assert refused.returncode == 1
    assert "the new code does not start: SyntaxError" in refused.stderr
    pid = before["supervisor"]["pid"]
    psutil.Process(pid).send_signal(signal.SIGHUP)
    log = tree.home / "state" / "logs" / "fusiond.log"
    eventually(lambda: "nothing is reloaded: the new code does not start" in log.read_text())
    after = tree.json("health")
    assert [actor["pid"] for actor in after["actors"]] == [actor["pid"] for actor in before["actors"]]
    assert tree.ok("chat", "hello") == "You said: hello\n"
