"""Lines between worker and runner."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythonic_assistant.domain.budget import Budget, Usage
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.event import (
    ArtifactSaved,
    CheckExecuted,
    CodeExecuted,
    Event,
    ModelReplied,
    OutputWritten,
    PlanMade,
    RunFailed,
    RunSucceeded,
)
from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.domain.plan import Plan, Step
from pythonic_assistant.domain.task import Exchange, FinishedStep, Resume, RunRequest
from pythonic_assistant.domain.verdict import Evidence, Verdict
from pythonic_assistant.wire import (
    ModelConfig,
    RunOrder,
    TimedEvent,
    ToolAnswered,
    ToolAsked,
    fields_of,
    read_answer,
    read_from_runner,
    read_order,
    storable,
    write_answer,
    write_ask,
    write_event,
    write_order,
)

NOW = datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=UTC)
PLAN = Plan(steps=(Step(id="s1", title="t", goal="g", proof="p", depends_on=()),))
EVIDENCE = Evidence(check="c", outcome="passed", detail="d", code="assert x")
EVENTS: list[Event] = [
    PlanMade(plan=PLAN),
    OutputWritten(step_id="s1", execution=1, stream="stdout", text="a\nb"),
    CodeExecuted(step_id="s1", execution=1, outcome="error", output="", error="E", seconds=0.5),
    CheckExecuted(round=1, check="c", outcome="failed", detail="", code=""),
    ArtifactSaved(name="a.png", path="x", media_type="image/png", bytes=1, sha256="0" * 64),
    ModelReplied(purpose="plan", seconds=1.0, usage=Usage(turns=1)),
    RunSucceeded(answer="42", verdict=Verdict(kind="proven", evidence=(EVIDENCE,)), usage=Usage(turns=2)),
    RunFailed(error="e", retryable=True, usage=Usage(), evidence=(EVIDENCE,)),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_events_come_back_as_they_were(event: Event) -> None:
    line = write_event(TimedEvent(at=NOW, event=event))
    assert line.count(b"\n") == 1
    assert read_from_runner(line) == TimedEvent(at=NOW, event=event)


def test_asks_and_answers_come_back_as_they_were() -> None:
    asked = ToolAsked(id=3, tool="earlier_tasks", arguments={"words": "tea\nor", "limit": 2})
    assert write_ask(asked).count(b"\n") == 1
    assert read_from_runner(write_ask(asked)) == asked
    for answered in (
        ToolAnswered(id=3, value=[{"a": None}, 1.5, "x\ny"]),
        ToolAnswered(id=4, error="There is no such thread."),
    ):
        assert write_answer(answered).count(b"\n") == 1
        assert read_answer(write_answer(answered)) == answered


@pytest.mark.parametrize(
    "line",
    [
        b'{"ask": null}\n',
        b'{"ask": {"id": 1, "tool": "x"}}\n',
        b'{"ask": {"id": "one", "tool": "x", "arguments": {}}}\n',
        b'{"ask": {"id": 1, "tool": "x", "arguments": []}}\n',
    ],
)
def test_an_ask_without_its_parts_is_refused(line: bytes) -> None:
    with pytest.raises(InvalidInputError, match="asks for no tool"):
        read_from_runner(line)


@given(st.text(alphabet=st.characters(codec=None)))
def test_any_text_survives_as_something_the_database_can_hold(text: str) -> None:
    event = OutputWritten(step_id="s1", execution=1, stream="stdout", text=text)
    line = read_from_runner(write_event(TimedEvent(at=NOW, event=event)))
    assert isinstance(line, TimedEvent)
    back = line.event
    assert isinstance(back, OutputWritten)
    assert "\0" not in back.text
    assert back.text.encode() == storable(text).encode()
    assert fields_of(event)["text"] == back.text


def test_orders_come_back_as_they_were_and_hide_the_key() -> None:
    order = RunOrder(
        request=RunRequest(
            prompt="do",
            files=(InputFile(name="a.csv", path=Path("/x/a.csv"), media_type="text/csv", bytes=3),),
            history=(Exchange(role="user", content="hi"),),
            budget=Budget(turns=3),
            resume=Resume(plan=PLAN, finished=(FinishedStep(step_id="s1", code="x", output=""),)),
        ),
        model=ModelConfig(model="m", api_key="sk-secret"),
        sandbox_socket=Path("/s"),
        outbox=Path("/o"),
    )
    assert read_order(write_order(order)) == order
    assert "sk-secret" not in repr(order)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"[]\n",
        b"{}\n",
        b'{"at": 1}\n',
        b'{"at":"2026-11-20T12:00:00Z","event":{"kind":"x"}}\n',
        b"\xff\n",
        b"[" * 100_000,
    ],
)
def test_garbage_is_refused_with_a_sentence(line: bytes) -> None:
    with pytest.raises(InvalidInputError, match="no event"):
        read_from_runner(line)
    with pytest.raises(InvalidInputError, match="no answer"):
        read_answer(line)
    with pytest.raises(InvalidInputError, match="could not read its request"):
        read_order(line)
