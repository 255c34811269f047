"""JSONL: OpenAI Batch lines and short ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .written import URL, jsonl, look, openai, prompts, read, whys

USER = {"role": "user", "content": "hi"}


def test_a_short_line_is_a_chat_named_for_its_line() -> None:
    (item,) = read(b"\n" + jsonl({"prompt": "hi"}))
    assert (item.n, item.id, item.url) == (0, "line-000002", URL)
    assert json.loads(item.body) == {"messages": [USER]}


def test_a_short_line_may_name_itself_its_model_and_its_system_prompt() -> None:
    (item,) = read(jsonl({"prompt": "hi", "id": "a", "system": "be brief", "model": "m"}), system="be long")
    assert item.id == "a"
    assert json.loads(item.body) == {
        "messages": [{"role": "system", "content": "be brief"}, USER],
        "model": "m",
    }


def test_a_short_line_without_a_system_prompt_gets_the_command_s_and_an_empty_one_none() -> None:
    with_it, without = read(jsonl({"prompt": "hi"}, {"prompt": "hi", "system": ""}), system="be brief")
    assert json.loads(with_it.body)["messages"] == [{"role": "system", "content": "be brief"}, USER]
    assert json.loads(without.body)["messages"] == [USER]


def test_an_openai_line_goes_through_with_its_body_byte_for_byte() -> None:
    body = b'{ "messages" : [{"role":"user","content":"caf\\u00e9 \\"custom_id\\" \xc3\xa9"}],\t"x":1.50e+2, "x": {} }'
    (item,) = read(b'{"body": ' + body + b' , "custom_id":"a"}\r\n', system="never")
    assert (item.id, item.url, item.body) == ("a", URL, body)


def test_an_openai_line_may_go_elsewhere_and_then_needs_no_messages() -> None:
    (item,) = read(jsonl(openai(url="/v1/embeddings", body={"input": "x"})))
    assert (item.url, json.loads(item.body)) == ("/v1/embeddings", {"input": "x"})


def test_an_openai_line_may_hold_keys_that_are_not_known() -> None:
    assert len(read(jsonl(openai(metadata={"a": 1})))) == 1


def test_a_file_may_mix_both_forms_and_blank_lines() -> None:
    data = (
        jsonl({"prompt": "one"})
        + b" \r\n"
        + jsonl(openai("b"))
        + b"\n"
        + jsonl({"id": "c", "prompt": "custom_id"})
    )
    assert [item.id for item in read(data)] == ["line-000001", "b", "c"]


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (b'{"prompt": "x"}', "jsonl"),
        (b'\xef\xbb\xbf\r\n \n{"prompt": "x"}', "jsonl"),
        (b'{"prompt": 5}', "jsonl"),
        (b'{"custom_id": null, "x": [1]}', "jsonl"),
        (b'{"pro\\u006dpt": "x"}', "jsonl"),
        (b"{}", "text"),
        (b'{"text": "x"}', "text"),
        (b'["prompt"]', "text"),
        (b"5", "text"),
        (b'the "prompt"\n{"prompt": "x"}', "text"),
    ],
)
def test_the_first_line_that_is_not_blank_tells_the_format(data: bytes, format: str) -> None:
    assert look(data).format == format


def test_the_format_that_is_asked_for_is_taken() -> None:
    assert prompts(b'{"prompt": "x"}\n', format="text") == ['{"prompt": "x"}']
    assert whys(b"hello\n", format="jsonl")[0][1].startswith("not JSON (")


def test_an_escaped_key_is_the_key_it_means() -> None:
    assert [item.id for item in read(rb'{"custom\u005fid": "a", "body": {"messages": [{}]}}')] == ["a"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"prompt": "x"} {}', "not JSON (trailing characters (byte 17))"),
        (b'{"prompt": "x"', "not JSON (Input data was truncated)"),
        (b'{"prompt": NaN}', "not JSON (invalid character (byte 11))"),
        (b'{"prompt": "\xff"}', "not UTF-8 (byte 12 is 0xff)"),
        (b'{"custom_id": "a", "body": {"messages": ["\xff"]}}', "not UTF-8 (byte 42 is 0xff)"),
        (b'{"prompt": "a\0b"}', "a NUL byte is in it"),
        (b'{"prompt": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"custom_id": "a", "body": ' + b'{"messages":' * 100_000, "nested too deeply"),
    ],
)
def test_a_line_that_is_not_json_is_bad(line: bytes, why: str) -> None:
    assert whys(b'{"prompt": "good"}\n' + line + b"\n") == [(2, why)]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (5, "not an object"),
        (["prompt"], "not an object"),
        ("prompt", "not an object"),
        (None, "not an object"),
        ({}, 'neither "prompt" nor "custom_id"'),
        ({"body": {}}, 'neither "prompt" nor "custom_id"'),
        ({"promt": "x"}, 'unknown key "promt"; did you mean "prompt"?'),
        ({"prompt": "x", "Model": "m"}, 'unknown key "Model"; did you mean "model"?'),
        ({"prompt": "x", "sytsem": "m"}, 'unknown key "sytsem"; did you mean "system"?'),
        ({"prompt": "x", "zzz\n": 1}, r'unknown key "zzz\n"; the keys are prompt, id, system, model'),
        ({"prompt": "x", "q" * 99: 1}, f'unknown key "{"q" * 60}…"; the keys are prompt, id, system, model'),
        (
            {"prompt": "x", "custom_id": "a"},
            'unknown key "custom_id"; the keys are prompt, id, system, model',
        ),
        (openai(prompt="x"), 'unknown key "custom_id"; the keys are prompt, id, system, model'),
        ({"prompt": 5}, '"prompt" must be a string and not blank'),
        ({"prompt": None}, '"prompt" must be a string and not blank'),
        ({"prompt": ["x"]}, '"prompt" must be a string and not blank'),
        ({"prompt": ""}, '"prompt" must be a string and not blank'),
        ({"prompt": " \n\u00a0"}, '"prompt" must be a string and not blank'),
        ({"prompt": "x", "id": 5}, '"id" must be a string of 1 to 512 characters'),
        ({"prompt": "x", "id": None}, '"id" must be a string of 1 to 512 characters'),
        ({"prompt": "x", "id": ""}, '"id" must be a string of 1 to 512 characters'),
        ({"prompt": "x", "id": "é" * 513}, '"id" must be a string of 1 to 512 characters'),
        ({"prompt": "x", "system": 5}, '"system" must be a string'),
        ({"prompt": "x", "model": ""}, '"model" must be a string and not empty'),
        (openai(7), '"custom_id" must be a string of 1 to 512 characters'),
        (openai(""), '"custom_id" must be a string of 1 to 512 characters'),
        (openai("é" * 513), '"custom_id" must be a string of 1 to 512 characters'),
        (openai(method="GET"), '"method" must be "POST"'),
        (openai(method=None), '"method" must be "POST"'),
        (openai(url=5), '"url" must be a string that begins with "/v1/"'),
        (openai(url="https://x/v1/"), '"url" must be a string that begins with "/v1/"'),
        ({"custom_id": "a"}, '"body" is missing'),
        (openai(body=[]), '"body" must be an object'),
        (openai(body="{}"), '"body" must be an object'),
        (openai(url="/v1/embeddings", body=5), '"body" must be an object'),
        (openai(body={}), '"messages" is missing'),
        (openai(body={"messages": []}), '"messages" must be a list and not empty'),
        (openai(body={"messages": "hi"}), '"messages" must be a list and not empty'),
        (
            openai(body={"messages": [USER], "stream": True}),
            '"stream" must be false or left out: a batch streams nothing',
        ),
        (
            openai(url="/v1/x", body={"stream": True}),
            '"stream" must be false or left out: a batch streams nothing',
        ),
        (
            openai(body={"messages": [USER], "stream": 1}),
            '"stream" must be false or left out: a batch streams nothing',
        ),
    ],
)
def test_a_line_that_is_no_item_is_bad_and_why_is_said(value: Any, why: str) -> None:
    assert whys(jsonl({"prompt": "good"}, value)) == [(2, why)]


@pytest.mark.parametrize(
    "line",
    [{"prompt": "x", "id": "é" * 512}, openai("é" * 512), openai(body={"messages": [5], "stream": False})],
)
def test_what_is_just_within_the_rules_is_good(line: Any) -> None:
    assert len(read(jsonl(line))) == 1
