"""A run that is interrupted anywhere goes on where its conversation stood, and asks no model twice."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pythonic_assistant.agent import loop
from pythonic_assistant.domain.budget import Budget, Usage
from pythonic_assistant.domain.conversation import Recorded, Reply
from pythonic_assistant.domain.event import (
    Event,
    ItemAdded,
    PlanMade,
    RunFailed,
    RunSucceeded,
    StepFinished,
)
from pythonic_assistant.domain.plan import Plan
from pythonic_assistant.domain.task import FinishedStep, Resume, RunRequest
from tests.fakes import ListedModel, OpenSandbox, code, plan, verification

REPLIES = [
    plan("s1", "s2"),
    code("x = 1\nraise ValueError('not yet')"),
    code("x = 20"),
    code("y = x + 1"),
    verification("It is 22.", "assert y == 22"),
    code("y = x + 2"),
    verification("It is 22.", "assert y == 22"),
]
"""A fix, two steps, and a refuted answer that is mended."""


class Killed(BaseException):
    """As kill -9: whatever was to be told after it is not told."""


@dataclass
class Rows:
    """What the database keeps of a task, as `append_events` does."""

    items: list[Recorded] = field(default_factory=list[Recorded])
    spent: Usage = field(default_factory=Usage)
    plan: Plan | None = None
    finished: dict[str, FinishedStep] = field(default_factory=dict[str, FinishedStep])

    def apply(self, event: Event) -> None:
        match event:
            case ItemAdded():
                assert event.position <= len(self.items), "the conversation has a gap"
                del self.items[event.position :]
                self.items.append(Recorded(item=event.item, data=event.data))
                self.spent += event.usage or Usage()
            case PlanMade():
                self.plan, self.finished = event.plan, {}
            case StepFinished(outcome="succeeded"):
                step = FinishedStep(step_id=event.step_id, code=event.code, output=event.output)
                self.finished[event.step_id] = step
            case _:
                pass

    @property
    def replies(self) -> int:
        return sum(isinstance(row.item, Reply) for row in self.items)

    def request(self, **more: Any) -> RunRequest:
        resume = Resume(plan=self.plan, finished=tuple(self.finished.values())) if self.plan else None
        return RunRequest(
            prompt="do it", resume=resume, recorded=tuple(self.items), spent=self.spent, seed=7, **more
        )


async def attempt(folder: Path, rows: Rows, *, most: int = 10_000, **more: Any) -> tuple[list[Event], int]:
    """Run until it ends, or until `most` events are told; returns them, and how often a model was asked."""
    folder.mkdir()
    model = ListedModel(REPLIES[rows.replies :])
    events: list[Event] = []

    def emit(event: Event) -> None:
        if len(events) == most:
            raise Killed
        events.append(event)
        rows.apply(event)

    outbox = folder / "outbox"
    outbox.mkdir()
    with suppress(Killed):
        await loop.run(
            rows.request(**more),
            model=model,
            sandbox=OpenSandbox(folder / "sessions"),
            outbox=outbox,
            emit=emit,
        )
    return events, len(model.requests)


async def test_killed_between_any_two_events_no_reply_is_asked_for_twice(tmp_path: Path) -> None:
    whole, asked = await attempt(tmp_path / "whole", Rows())
    assert isinstance(whole[-1], RunSucceeded)
    assert asked == len(REPLIES)
    assert whole[-1].verdict.kind == "proven"
    for most in range(1, len(whole)):
        rows = Rows()
        before, asked_before = await attempt(tmp_path / f"{most}a", rows, most=most)
        kept = rows.replies
        after, asked_after = await attempt(tmp_path / f"{most}b", rows)
        end = after[-1]
        where = f"killed after {before[-1].kind} ({most})"
        assert isinstance(end, RunSucceeded), (where, end)
        assert (end.answer, end.verdict.kind) == ("It is 22.", "proven"), where
        assert asked_after == len(REPLIES) - kept, where
        assert asked_before - kept in (0, 1), where  # one may have been on its way
        assert end.usage == whole[-1].usage, where
        assert set(rows.finished) >= {"s1", "s2"}, where
        assert [row.item for row in rows.items] == [
            event.item for event in whole if isinstance(event, ItemAdded)
        ], where


async def test_killed_again_and_again_it_still_ends(tmp_path: Path) -> None:
    rows, asked, number = Rows(), 0, 0
    while True:
        # A little further each time: what is rebuilt tells a few events before anything new.
        events, more = await attempt(tmp_path / str(number), rows, most=4 + number)
        asked, number = asked + more, number + 1
        if isinstance(events[-1], RunSucceeded):
            break
        assert number < 40
    assert len(REPLIES) <= asked <= len(REPLIES) + number


async def test_what_earlier_attempts_spent_counts(tmp_path: Path) -> None:
    rows = Rows()
    await attempt(tmp_path / "a", rows, most=12)
    events, asked = await attempt(tmp_path / "b", rows, budget=Budget(turns=rows.spent.turns))
    end = events[-1]
    assert isinstance(end, RunFailed)
    assert "model replies for one task is spent" in end.error
    assert (asked, end.usage) == (0, rows.spent)


async def test_failures_of_an_earlier_attempt_count_as_executions(tmp_path: Path) -> None:
    rows = Rows()
    events, _ = await attempt(tmp_path / "a", rows, budget=Budget(executions_per_step=1))
    assert isinstance(events[-1], RunFailed)
    events, asked = await attempt(tmp_path / "b", rows, budget=Budget(executions_per_step=1))
    assert isinstance(events[-1], RunFailed)
    assert asked == 0


@pytest.mark.parametrize("broken", ["raise ValueError('gone')", "1/0"])
async def test_a_finished_step_that_does_not_run_any_more_is_done_anew(tmp_path: Path, broken: str) -> None:
    rows = Rows()
    await attempt(tmp_path / "a", rows, most=21)
    assert "s1" in rows.finished
    place = max(
        n for n, row in enumerate(rows.items) if isinstance(row.item, Reply) and row.item.code == "x = 20"
    )
    reply = rows.items[place].item
    assert isinstance(reply, Reply)
    rows.items[place] = replace(rows.items[place], item=replace(reply, code=broken))
    del rows.items[place + 2 :]  # as if nothing had followed, so that the listed replies fit
    model_replies = [code("x = 20"), *REPLIES[3:]]
    folder = tmp_path / "b"
    folder.mkdir()
    model = ListedModel(model_replies)
    events: list[Event] = []
    (folder / "outbox").mkdir()
    await loop.run(
        rows.request(),
        model=model,
        sandbox=OpenSandbox(folder / "sessions"),
        outbox=folder / "outbox",
        emit=events.append,
    )
    assert isinstance(events[-1], RunSucceeded), events[-1]
    notes = [event.text for event in events if event.kind == "noted"]
    assert any("could not be rebuilt from its recorded code" in text for text in notes)
