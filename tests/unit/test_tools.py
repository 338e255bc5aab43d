"""Tools: what their schemas let through, and the way of a call to another process and back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from pythonic_assistant.domain.errors import (
    InvalidInputError,
    StoreUnavailableError,
    ToolError,
    ToolRefusedError,
)
from pythonic_assistant.domain.tool import ToolSpec
from pythonic_assistant.tools.asking import Asking
from pythonic_assistant.tools.built_in import BUILT_IN, EARLIER_TASKS, THREAD_FILES
from pythonic_assistant.tools.registry import CheckedToolbox, Tool, toolbox_of
from pythonic_assistant.wire import (
    ToolAnswered,
    ToolAsked,
    read_answer,
    read_from_runner,
    write_answer,
    write_ask,
)
from worker.tools import tools_of


async def echo(context: str, arguments: Mapping[str, Any]) -> Any:
    return {"for": context, **arguments}


def boxed(code: Any = echo, **parameters: Any) -> CheckedToolbox:
    schema = {"type": "object", "additionalProperties": False} | parameters
    spec = ToolSpec(name="tool", description="", parameters=schema)
    return toolbox_of([Tool(spec=spec, run=code)], "ann")


async def test_a_built_in_tool_gets_its_context_and_its_defaults() -> None:
    tools = toolbox_of([Tool(spec=EARLIER_TASKS, run=echo)], "ann")
    assert await tools.call("earlier_tasks", {"words": "tea"}) == {"for": "ann", "words": "tea", "limit": 5}


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        (
            "earlier_tasks",
            {"limit": "many"},
            r"earlier_tasks\(limit\) refuses .*'many' is not of type 'integer'",
        ),
        ("earlier_tasks", {"limit": 51}, "51 is greater than the maximum of 50"),
        ("earlier_tasks", {"user": "bob"}, "'user' was unexpected"),
        ("earlier_tasks", {"words": "x" * 501}, "is too long|longer than"),
        ("earlier_tasks", {"words": float("nan")}, "no JSON value"),
        ("earlier_tasks", {"words": {1, 2}}, "no JSON value"),
        ("earlier_tasks", {"words": "x" * 2_000_000}, "at most 1,048,576"),
        ("thread_files", {"x": 1}, "'x' was unexpected"),
        ("rm_rf", {}, "no tool 'rm_rf'; the tools of this task are: earlier_tasks, thread_files"),
        ("", {}, "no tool ''"),
    ],
)
async def test_what_a_schema_refuses_never_runs(name: str, arguments: dict[str, Any], words: str) -> None:
    ran: list[object] = []

    async def note(_: object, given: object) -> Any:
        ran.append(given)

    tools = toolbox_of([Tool(spec=spec, run=note) for spec in (EARLIER_TASKS, THREAD_FILES)], None)
    with pytest.raises(ToolRefusedError, match=words) as refusal:
        await tools.call(name, arguments)
    assert ran == []
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 500


async def test_arguments_that_are_nested_too_deeply_are_refused() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ToolError, match="no JSON value"):
        await boxed(properties={"x": {}}).call("tool", {"x": deep})


async def test_values_that_a_reader_on_the_way_could_not_take_are_refused_in_both_directions() -> None:
    async def deep(_: object, arguments: Mapping[str, Any]) -> Any:
        return nested(arguments["depth"])

    def nested(depth: int) -> Any:
        value: Any = 1
        for _ in range(depth):
            value = {"x": [value]} if depth % 2 else [value]
        return value

    tools = boxed(deep, properties={"depth": {}})
    assert await tools.call("tool", {"depth": 50}) == nested(50)
    with pytest.raises(ToolError, match="result of the tool tool is nested more than 50 deep"):
        await tools.call("tool", {"depth": 52})
    with pytest.raises(ToolRefusedError, match="nested more than 50 deep"):
        await tools.call("tool", {"depth": nested(51)})
    longest = read_from_runner(write_ask(ToolAsked(id=1, tool="tool", arguments={"x": nested(50)})))
    assert isinstance(longest, ToolAsked)
    assert read_answer(write_answer(ToolAnswered(id=1, value=nested(50)))).value == nested(50)


async def test_a_reference_of_a_schema_fetches_nothing() -> None:
    tools = boxed(properties={"x": {"$ref": "http://127.0.0.1:9/schema.json"}})
    with pytest.raises(ToolError, match="refers to what is not there"):
        await tools.call("tool", {"x": 1})


async def test_results_are_json_of_a_bounded_size() -> None:
    async def huge(_: object, __: object) -> Any:
        return "x" * 5_000_000

    async def odd(_: object, __: object) -> Any:
        return object()

    with pytest.raises(ToolError, match=r"The result of the tool tool has 5,000,002 bytes"):
        await boxed(huge).call("tool", {})
    with pytest.raises(ToolError, match="no JSON value"):
        await boxed(odd).call("tool", {})


async def test_a_tool_that_fails_or_hangs_is_an_error_of_the_tool() -> None:
    async def fails(_: object, __: object) -> Any:
        raise StoreUnavailableError("The database does not answer.")

    with pytest.raises(ToolError, match=r"tool failed: The database does not answer\."):
        await boxed(fails).call("tool", {})

    async def hangs(_: str, __: object) -> Any:
        await asyncio.Event().wait()

    spec = ToolSpec(name="tool", description="", parameters={"type": "object"})
    with pytest.raises(ToolError, match=r"no result within 0\.01 seconds"):
        await CheckedToolbox([spec], hangs, seconds=0.01).call("tool", {})


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("not a name", {"type": "object"}, "no Python name"),
        ("class", {"type": "object"}, "no Python name"),
        ("_hidden", {"type": "object"}, "no Python name"),
        ("tool", {"type": "array"}, 'type "object"'),
        ("tool", {"type": "object", "properties": {"a b": {}}}, "no Python name"),
        ("tool", {"type": "object", "properties": {"a": {"type": "float"}}}, "is none"),
    ],
)
def test_a_tool_that_could_not_be_called_is_refused(
    name: str, parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words):
        toolbox_of([Tool(spec=ToolSpec(name=name, description="", parameters=parameters), run=echo)], "")


def test_a_tool_without_code_and_one_that_is_there_twice_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="no code"):
        toolbox_of([Tool[str](spec=THREAD_FILES)], "")
    with pytest.raises(InvalidInputError, match="two tools"):
        toolbox_of([Tool(spec=THREAD_FILES, run=echo)] * 2, "")


@pytest.mark.parametrize("risk", ["write", "irreversible"])
def test_no_tool_that_does_more_than_read_gets_past_the_ledger(risk: Any) -> None:
    spec = replace(THREAD_FILES, risk=risk)

    async def act(_: str, __: object, ___: str) -> Any:
        return None

    with pytest.raises(InvalidInputError, match="does more than read, so it needs act"):
        toolbox_of([Tool(spec=spec, run=echo)], "")
    with pytest.raises(InvalidInputError, match="nobody here keeps the ledger"):
        toolbox_of([Tool(spec=spec, act=act)], "")
    with pytest.raises(InvalidInputError, match="no argument 'to' that could name a recipient"):
        toolbox_of([Tool(spec=replace(THREAD_FILES, recipients=("to",)), run=echo)], "")


def test_tools_are_granted_by_name() -> None:
    assert [tool.spec for tool in tools_of(["thread_files", "thread_files"])] == [THREAD_FILES]
    assert [tool.spec for tool in tools_of(BUILT_IN)] == list(BUILT_IN.values())
    with pytest.raises(InvalidInputError, match=r"no tool 'sudo'; the tools are earlier_tasks, thread_files"):
        tools_of(["thread_files", "sudo"])


async def test_overlapping_calls_get_the_answers_of_their_own_numbers() -> None:
    asked: list[ToolAsked] = []
    asking = Asking(asked.append)
    calls = [asyncio.create_task(asking.call("tool", {"n": n})) for n in range(3)]
    await asyncio.sleep(0)
    assert [ask.arguments["n"] for ask in asked] == [0, 1, 2]
    for ask in reversed(asked):
        asking.answer(ToolAnswered(id=ask.id, value=ask.arguments["n"] * 10))
    assert await asyncio.gather(*calls) == [0, 10, 20]


async def test_an_error_of_the_other_end_is_raised_and_a_late_answer_is_dropped() -> None:
    asked: list[ToolAsked] = []
    asking = Asking(asked.append)
    call = asyncio.create_task(asking.call("tool", {}))
    await asyncio.sleep(0)
    asking.answer(ToolAnswered(id=99, value="of nobody"))
    asking.answer(ToolAnswered(id=asked[0].id, error="There is no such thread."))
    asking.answer(ToolAnswered(id=asked[0].id, value="too late"))
    with pytest.raises(ToolError, match="no such thread"):
        await call
    left = asyncio.create_task(asking.call("tool", {}))
    await asyncio.sleep(0)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    asking.answer(ToolAnswered(id=asked[1].id, value="for one that left"))
