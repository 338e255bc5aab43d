"""Reading of code and JSON, and the writing of conversations."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pythonic_assistant.adapters.models.chat import chat_messages
from pythonic_assistant.adapters.models.codecs import CODECS, TOOL_NAME, call_code, read_output, result_item
from pythonic_assistant.adapters.models.fenced import bare_code, object_in, split_code
from pythonic_assistant.adapters.models.neutral import reply_text
from pythonic_assistant.adapters.models.transcript import input_items
from pythonic_assistant.domain.conversation import CodeResult, Reply, Said
from tests.servers.rules import check_strict_schema

CODE = 'import re\nprint(re.sub(r"\\d", "#", "a1"))'


@pytest.mark.parametrize(
    ("text", "words", "code"),
    [
        ("Here.\n```python\nx = 1\n```\nDone.", "Here.\n\nDone.".replace("\n\n", "\n"), "x = 1"),
        ("```py\nx = 1\n```", "", "x = 1"),
        ("~~~\nx = 1\n~~~", "", "x = 1"),
        ("```python\nx = 1", "", "x = 1"),
        ("<think>```python\nno\n```</think>\n```python\nx = 1\n```", "", "x = 1"),
        ("```python\nx = 1\n```\nand\n```python\ny = 2\n```", "and", "x = 1\n\ny = 2"),
        ("```bash\npip install x\n```\n```python\nx = 1\n```", "```bash\npip install x\n```", "x = 1"),
        (
            "1. Run\n   ```python\n   x = 1\n   if x:\n       y = 2\n   ```",
            "1. Run",
            "x = 1\nif x:\n    y = 2",
        ),
        ('```python\ns = """\n```\ninner\n```\n"""\n```', "", 's = """\n```\ninner\n```\n"""'),
        ("````python\nx = '```'\n````", "", "x = '```'"),
        ("No code, only `x = 1`.", "No code, only `x = 1`.", None),
        ("```json\n{}\n```", "```json\n{}\n```", None),
        ("```python\n\n```", "", None),
        ("", "", None),
    ],
)
def test_fences_are_parted_from_words(text: str, words: str, code: str | None) -> None:
    assert split_code(text) == (words, code)


@pytest.mark.parametrize(
    "arguments",
    [
        json.dumps({"code": CODE}),
        json.dumps(json.dumps({"code": CODE})),
        json.dumps({"code": f"```python\n{CODE}\n```"}),
        {"code": CODE},
        json.dumps({"input": CODE}),
        '{"code": "import re\nprint(re.sub(r\\"\\d\\", \\"#\\", \\"a1\\"))"}',
        repr({"code": CODE}),
        CODE,
        json.dumps(CODE),
        f"```python\n{CODE}\n```",
    ],
    ids=[
        "json",
        "twice",
        "fenced",
        "object",
        "other key",
        "raw breaks",
        "literal",
        "bare",
        "string",
        "fence",
    ],
)
def test_arguments_of_a_function_are_read_whatever_their_form(arguments: Any) -> None:
    assert call_code({"type": "function_call", "arguments": arguments}) == CODE


@pytest.mark.parametrize("arguments", ['{"code": "x = 1', '{"other": 1}', "", "{}", None])
def test_unreadable_arguments_are_no_code(arguments: Any) -> None:
    call = {"type": "function_call", "call_id": "c", "name": TOOL_NAME, "arguments": arguments}
    read = read_output([call], code_wanted=True)
    assert read.code is None
    assert read.unreadable


@pytest.mark.parametrize("given", [CODE, f"```python\n{CODE}\n```", json.dumps({"code": CODE})])
def test_input_of_a_custom_tool_is_code(given: str) -> None:
    assert call_code({"type": "custom_tool_call", "input": given}) == CODE


def test_a_dict_display_is_code_of_a_custom_tool() -> None:
    assert call_code({"type": "custom_tool_call", "input": '{"a": 1}'}) == '{"a": 1}'
    assert bare_code("x = 1\n") == "x = 1\n"


def test_output_is_read_in_any_order_and_with_unknown_items() -> None:
    read = read_output(
        [
            {"type": "reasoning", "id": "rs"},
            {"type": "something_new"},
            {"type": "message", "content": [{"type": "output_text", "text": "First."}]},
            {"type": "function_call", "call_id": "c1", "name": "python", "arguments": '{"code": "x"}'},
            {"type": "function_call", "call_id": "c2", "name": "python", "arguments": '{"code": "y"}'},
            None,
        ],
        code_wanted=True,
    )
    assert (read.text, read.code, read.call_id) == ("First.", "x", "c1")


def test_a_refusal_is_told_from_words() -> None:
    part = {"type": "refusal", "refusal": "I will not."}
    read = read_output([{"type": "message", "content": [part]}], code_wanted=True)
    assert (read.text, read.code, read.refusal) == ("", None, "I will not.")


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, {"b": "}"}]}',
        '```json\n{"a": [1, {"b": "}"}]}\n```',
        'Certainly: {"a": [1, {"b": "}"}]} Anything else?',
        '<think>{"a": 0}</think>{"a": [1, {"b": "}"}]}',
        'Like {this}: {"a": [1, {"b": "}"}]}',
    ],
)
def test_json_is_found_in_words(text: str) -> None:
    assert object_in(text) == {"a": [1, {"b": "}"}]}


@pytest.mark.parametrize("text", ["", "no", "[1]", '{"a": ', "null", "{a: 1}"])
def test_what_is_no_json_object_is_none(text: str) -> None:
    assert object_in(text) is None


def test_json_with_raw_breaks_and_single_backslashes_is_read() -> None:
    assert object_in('{"a": "x\ny \\d"}') == {"a": "x\ny \\d"}


def test_the_function_tool_is_strict() -> None:
    tool = CODECS["function"].tools[0]
    check_strict_schema(tool["parameters"], "parameters")
    assert tool["strict"] is True


def test_fenced_text_of_a_reply_is_read_back() -> None:
    for code in ("x = 1", 's = """\n```\n"""', "print('````')"):
        assert split_code(reply_text(Reply(text="Words.", code=code))) == ("Words.", code)
    assert reply_text(Reply(text=""))


RAW = (
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"},
    {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c1", "name": "python", "input": "x"},
    {"type": "function_call", "id": "fc_1", "call_id": "c2", "name": "python", "arguments": "{}"},
)
REPLY = Reply(text="", code="x", call_id="c1", model="m", raw=RAW)


def test_each_call_gets_one_result_of_its_own_type() -> None:
    written = input_items(
        [Said(text="Go."), REPLY, CodeResult(text="1", call_id="c1"), CodeResult(text="again", call_id="c1")],
        model="m",
        verbatim=True,
        official=True,
    )
    assert written[1:4] == list(RAW)
    assert written[4] == {"type": "custom_tool_call_output", "call_id": "c1", "output": "1"}
    assert written[5]["type"] == "function_call_output"
    assert written[5]["call_id"] == "c2"
    assert written[6]["role"] == "user"
    assert written[6]["content"].endswith("again")
    assert len(written) == 7


@pytest.mark.parametrize(
    ("model", "verbatim", "official", "sealed", "as_it_was"),
    [
        ("m", True, True, "sealed", True),
        ("other", True, True, "sealed", False),
        ("m", False, True, "sealed", False),
        ("m", True, True, None, False),
        ("m", True, False, None, True),
    ],
)
def test_replies_are_replayed_only_where_they_can_be(
    model: str, verbatim: bool, official: bool, sealed: str | None, as_it_was: bool
) -> None:
    raw = ({**RAW[0], "encrypted_content": sealed}, RAW[1])
    reply = Reply(text="", code="x", call_id="c1", model="m", raw=raw)
    written = input_items(
        [reply, CodeResult(text="1", call_id="c1")], model=model, verbatim=verbatim, official=official
    )
    assert (list(raw) == written[:2]) == as_it_was
    if not as_it_was:
        assert [item["role"] for item in written] == ["assistant", "user"]


def test_an_unknown_call_has_no_result() -> None:
    with pytest.raises(KeyError):
        result_item(RAW, "c9", "1")


def test_chat_turns_alternate() -> None:
    messages = chat_messages("Be exact.", [Said(text="a"), Said(text="b"), REPLY, CodeResult(text="1")])
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[1]["content"] == "a\n\nb"
