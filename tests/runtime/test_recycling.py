"""A process that has become too large is replaced, and nobody notices."""

from __future__ import annotations

import json

from tests.tree import Tree, eventually


def test_a_process_that_is_too_large_is_replaced_between_two_answers(
    tree: Tree, scripted_server: str
) -> None:
    tree.configure(
        f'model = "test/x"\n[providers.test]\nbase_url = "{scripted_server}"\n[actors.agent]\nmax_rss_mb = 5\n'
    )
    tree.start()
    first = tree.actor("agent.0")["pid"]

    def replaced() -> bool:
        assert tree.run("chat", "hello").returncode == 0
        return tree.actor("agent.0")["pid"] not in (None, first)

    eventually(replaced, within=40)
    last = tree.actor("agent.0")["last_exit"]
    assert last["reason"] == "rss"
    assert "more than 5 MB" in last["detail"]
    assert tree.actor("llm.0")["restarts"] == 0
    kinds = [json.loads(line)["kind"] for line in tree.ok("events", "--json").splitlines()]
    assert "replaced" in kinds
