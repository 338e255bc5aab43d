"""The library: an iterator of events, without a database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pythonic_assistant import PythonicAssistant
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.event import RunSucceeded
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.domain.tool import ToolSpec
from pythonic_assistant.ports import ModelReply, ModelRequest
from pythonic_assistant.tools.registry import Tool, toolbox_of
from tests.fakes import ListedModel, OpenSandbox, code, plan, verification


class SilentAfter(ListedModel):
    """Gives its replies and then never answers again."""

    async def respond(self, request: ModelRequest) -> ModelReply:
        if not self.replies:
            await asyncio.Event().wait()
        return await super().respond(request)


async def test_events_come_one_by_one_and_the_artifacts_are_there(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("x\n1\n2\n")
    model = ListedModel(
        [
            plan("s1"),
            code(
                "import pandas as pd\n"
                "total = int(pd.read_csv('inputs/a.csv').x.sum())\n"
                "pd.Series([total]).to_csv('t.csv')"
            ),
            verification("3, see t.csv", "assert total == 3"),
        ]
    )
    assistant = PythonicAssistant(
        model=model, sandbox=OpenSandbox(tmp_path), outbox=tmp_path / "out" / "deep"
    )
    events = [event async for event in assistant.run("add up", files=[source])]
    assert events[0].kind == "run_started"
    assert isinstance(events[-1], RunSucceeded)
    assert events[-1].verdict.kind == "proven"
    assert (tmp_path / "out" / "deep" / "t.csv").is_file()
    assert "inputs/a.csv" in str(model.requests[0].items[0])


async def test_limits_and_tools_are_those_of_the_caller(tmp_path: Path) -> None:
    async def count(_: None, arguments: Mapping[str, Any]) -> Any:
        return len(arguments["words"])

    spec = ToolSpec(
        name="count",
        description="Counts.",
        parameters={"type": "object", "properties": {"words": {"type": "array"}}, "required": ["words"]},
    )
    sandbox = OpenSandbox(tmp_path)
    model = ListedModel([plan("s1"), code("x = 1"), verification("1", "assert x")])
    assistant = PythonicAssistant(
        model=model,
        sandbox=sandbox,
        outbox=tmp_path / "out",
        limits=SandboxLimits(processes=2),
        toolbox=toolbox_of([Tool(spec=spec, run=count)], None),
    )
    assert [event async for event in assistant.run("do it")][-1].kind == "run_succeeded"
    session = sandbox.sessions[0]
    assert session.limits.processes == 2
    assert session.access.toolbox is not None
    assert await session.access.toolbox.call("count", {"words": [1, 2]}) == 2
    assert "def count(words: list):" in model.requests[0].instructions


async def test_leaving_early_ends_the_run(tmp_path: Path) -> None:
    sandbox = OpenSandbox(tmp_path)
    model = SilentAfter([plan("s1"), code("x = 1")])
    assistant = PythonicAssistant(model=model, sandbox=sandbox, outbox=tmp_path / "out")
    events = assistant.run("do it")
    async for event in events:
        if event.kind == "code_executed":
            break
    assert not sandbox.sessions[0].closed
    await events.aclose()
    assert sandbox.sessions[0].closed


def test_a_file_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    assistant = PythonicAssistant(model=ListedModel([]), sandbox=OpenSandbox(tmp_path))
    with pytest.raises(InvalidInputError, match=r"no file .*gone\.csv"):
        assistant.run("do it", files=[tmp_path / "gone.csv"])
