"""The embedded model, really loaded and really asked."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from fusiond.errors import BadRequest, ConfigError, ContextTooLong
from fusiond.models import SMOLLM2
from fusiond.protocol.chat import Completion, CompletionChunk, CompletionRequest, Message
from fusiond.providers.local import CONTEXT, LocalModel
from tests.providers.embedded import model_file

model = pytest.mark.model
CAPITAL = "What is the capital of France?"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the socket may be; short enough for one."""
    made = Path(tempfile.mkdtemp(prefix="fu"))
    yield made / "llm"
    shutil.rmtree(made)


@pytest.fixture
async def loaded(folder: Path) -> AsyncIterator[LocalModel]:
    one = LocalModel(SMOLLM2.name, model_file(), folder)
    one.load()
    yield one
    await one.aclose()


async def ask(
    one: LocalModel, prompt: str = CAPITAL, *, chunks: list[CompletionChunk] | None = None, **more: Any
) -> Completion:
    request = CompletionRequest(messages=[Message("user", prompt)], model=one.name, **more)
    return await one.complete(request, (chunks if chunks is not None else []).append)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def dead_pid() -> int:
    """The pid of a process that is gone."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


GREEDY = {"temperature": 0, "max_tokens": 24}


@model
async def test_it_knows_the_capital_of_france(loaded: LocalModel) -> None:
    for stream in (True, False):
        completion = await ask(loaded, options=GREEDY, stream=stream)
        assert completion.text == "The capital of France is Paris."
        assert completion.finish_reason == "stop"
        assert completion.usage.input_tokens
        assert completion.usage.output_tokens


@model
async def test_a_system_prompt_is_taken(loaded: LocalModel) -> None:
    request = CompletionRequest(
        messages=[Message("system", "You are a helpful assistant."), Message("user", CAPITAL)], options=GREEDY
    )
    assert "Paris" in (await loaded.complete(request, lambda _chunk: None)).text


@model
@pytest.mark.parametrize("kept", [1, 3, 5])
async def test_an_answer_cut_between_two_pieces_is_continued_to_the_same_end(
    loaded: LocalModel, kept: int
) -> None:
    chunks: list[CompletionChunk] = []
    whole = await ask(loaded, options=GREEDY, chunks=chunks)
    prefix = "".join(chunk.text for chunk in chunks[:kept])
    more: list[CompletionChunk] = []
    streamed = await ask(loaded, options=GREEDY, prefix=prefix, chunks=more)
    assert streamed.text == whole.text == prefix + "".join(chunk.text for chunk in more)
    assert not any(chunk.reset for chunk in more)
    assert (await ask(loaded, options=GREEDY, prefix=prefix, stream=False)).text == whole.text


@model
async def test_a_schema_is_kept_to(loaded: LocalModel) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
        "required": ["city", "country"],
        "additionalProperties": False,
    }
    completion = await ask(loaded, schema=schema, options={"temperature": 0, "max_tokens": 80})
    assert set(json.loads(completion.text)) == {"city", "country"}


@model
async def test_a_conversation_longer_than_the_context_is_refused(loaded: LocalModel) -> None:
    with pytest.raises(ContextTooLong):
        await ask(loaded, "word " * (CONTEXT + 100))


@model
async def test_an_option_it_does_not_take_is_named(loaded: LocalModel) -> None:
    with pytest.raises(BadRequest, match="temperature"):
        await ask(loaded, options={"temperature": "hot"})


@model
async def test_nothing_to_answer_is_refused(loaded: LocalModel) -> None:
    with pytest.raises(BadRequest, match="no message"):
        await loaded.complete(CompletionRequest(messages=[]), lambda _chunk: None)


@model
async def test_more_requests_than_slots_are_all_answered(loaded: LocalModel) -> None:
    asked = [ask(loaded, f"Say {n}.", options={"max_tokens": 3}, stream=n % 2 == 0) for n in range(12)]
    assert all(completion.text for completion in await asyncio.gather(*asked))


@model
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_cancel_stops_the_work_before_the_first_token_too(loaded: LocalModel, stream: bool) -> None:
    """Uncancelled, the four prompts would hold all slots for minutes."""
    long = "tree " * 3000
    asked = (ask(loaded, f"{n} {long}", options={"ignore_eos": True}, stream=stream) for n in range(4))
    tasks = [asyncio.create_task(one) for one in asked]
    _, waiting = await asyncio.wait(tasks, timeout=0.5)
    assert len(waiting) == 4
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    async with asyncio.timeout(12):
        assert (await ask(loaded, options=GREEDY)).text


@model
async def test_nobody_else_can_reach_it(loaded: LocalModel, folder: Path) -> None:
    assert stat.S_IMODE((await asyncio.to_thread(folder.stat)).st_mode) == 0o700
    assert [name.partition(".")[0] for name in names(folder)] == [str(os.getpid())]
    listening = [c for c in psutil.Process().net_connections(kind="inet") if c.status == psutil.CONN_LISTEN]
    assert listening == []


@model
async def test_it_leaves_no_socket_behind_and_can_be_loaded_again(folder: Path) -> None:
    for _ in range(2):
        one = LocalModel(SMOLLM2.name, model_file(), folder)
        one.load()
        assert (await ask(one, options=GREEDY)).text
        await one.aclose()
        assert names(folder) == []


@model
async def test_one_that_was_never_asked_can_be_closed_at_once(folder: Path) -> None:
    """In a process of its own: if it hangs, it holds the interpreter lock, and no timeout here would end it."""
    code = (
        "import asyncio, sys; from pathlib import Path; from fusiond.providers.local import LocalModel\n"
        "async def main():\n"
        "  for _ in range(8):\n"
        "    one = LocalModel('smollm2', Path(sys.argv[1]), Path(sys.argv[2])); one.load(); await one.aclose()\n"
        "asyncio.run(main())"
    )
    command = [sys.executable, "-c", code, str(model_file()), str(folder)]
    root = Path(__file__).parents[2]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=90, cwd=root)


@model
async def test_sockets_of_dead_processes_are_swept(folder: Path) -> None:
    await asyncio.to_thread(folder.mkdir)
    for pid in (dead_pid(), os.getppid()):
        (folder / f"{pid}.0.sock").touch()
    one = LocalModel(SMOLLM2.name, model_file(), folder)
    one.load()
    await one.aclose()
    assert names(folder) == [f"{os.getppid()}.0.sock"]


async def test_a_file_that_is_no_model_is_a_fault_of_the_configuration(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF and nothing else")
    one = LocalModel("broken", broken, folder)
    with pytest.raises(ConfigError, match=r"cannot load .*broken\.gguf"):
        one.load()
    await one.aclose()


async def test_a_path_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    one = LocalModel("any", tmp_path / "any.gguf", tmp_path / ("x" * 100))
    with pytest.raises(ConfigError, match="too long for a socket"):
        one.load()
    await one.aclose()


def test_the_binding_starts_no_thread_and_leaves_the_environment_as_it_was() -> None:
    """The fork server imports it: a thread would not survive the fork, a variable would reach every tool."""
    pytest.importorskip("xllamacpp")
    code = (
        "import os, fusiond.providers.local as local; assert local._xllamacpp is not None; "
        "assert len(os.listdir('/proc/self/task')) == 1; assert 'OMP_WAIT_POLICY' not in os.environ"
    )
    env = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=Path(__file__).parents[2])
