"""What processes say, in files and in the journal."""

from __future__ import annotations

import json
import logging
import socket
from pathlib import Path

import pytest

from fusiond.runtime import logs
from fusiond.runtime.logs import JournalHandler, Logs, under_systemd
from fusiond.transport.ids import current_request
from tests.tree import Tree, eventually

REMOTE = 'model = "test/echo"\n[providers.test]\nbase_url = "http://127.0.0.1:9"\n'


def test_one_requests_id_runs_through_every_process(tree: Tree) -> None:
    tree.configure('log_level = "DEBUG"\n' + REMOTE)
    tree.start()
    tree.run("chat", "hello")
    lines = [json.loads(line) for line in tree.ok("logs", "--json").splitlines()]
    asked = next(line for line in lines if line["message"].startswith("agent/chat, asked by pid"))
    found = tree.ok("logs", "--request", asked["request"])
    assert {"router", "agent.0", "store", "llm.0"} <= {line.split()[1] for line in found.splitlines()}
    others = [line for line in lines if line["request"] not in ("", asked["request"])]
    assert all(line["request"] not in found for line in others)


def test_a_log_that_has_become_too_long_is_put_aside_and_goes_on(tree: Tree) -> None:
    tree.configure('log_level = "DEBUG"\n' + REMOTE)
    folder = tree.home / "state" / "logs"
    folder.mkdir(parents=True)
    for name in ("router", "fusiond"):
        (folder / f"{name}.log").write_text("old\n" * (logs.ROTATE_AT // 4 + 1))
    tree.start()
    eventually(lambda: (folder / "router.log.1").exists() and (folder / "fusiond.log.1").exists(), within=20)
    tree.run("chat", "hello")
    assert "agent/chat" in (folder / "router.log").read_text()
    assert len((folder / "router.log").read_text()) < logs.ROTATE_AT
    tree.ok("restart", "router")
    tree.ok("stop")


def test_the_journal_is_given_priority_actor_and_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(path))
        monkeypatch.setattr(logs, "JOURNAL", str(path))
        handler = JournalHandler("llm.0")
        token = current_request.set(b"\x01\x92")
        handler.emit(logging.LogRecord("x", logging.WARNING, "", 0, "two\nlines", None, None))
        current_request.reset(token)
        got = journal.recv(65536)
    head, _, message = got.partition(b"MESSAGE\n")
    assert dict(line.split("=") for line in head.decode().splitlines()) == {
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "fusiond/llm.0",
        "FUSION_ACTOR": "llm.0",
        "FUSION_REQUEST": "0192",
    }
    assert message == (9).to_bytes(8, "little") + b"two\nlines\n"


def test_a_journal_that_takes_nothing_blocks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(path))
        monkeypatch.setattr(logs, "JOURNAL", str(path))
        handler = JournalHandler("llm.0")
        for _ in range(5000):  # nobody reads
            handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "x" * 1000, None, None))


def test_where_the_journal_is_not_there_nothing_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "JOURNAL", str(tmp_path / "none"))
    JournalHandler("llm.0").emit(logging.LogRecord("x", logging.INFO, "", 0, "said", None, None))


def test_only_a_standard_error_that_is_the_journal_counts_as_systemd() -> None:
    assert not under_systemd({})
    assert not under_systemd({"JOURNAL_STREAM": "1:1"})


def test_what_a_process_said_is_found_from_where_its_life_began(tmp_path: Path) -> None:
    kept = Logs(tmp_path, journal=False)
    (tmp_path / "llm.0.log").write_text("of another life\nof this one\n")
    assert kept.since("llm.0", 16) == ["of this one"]
    assert kept.since("nobody", 0) == []
