"""Events folded into what a card tells."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from live.rows import EventRow
from live.story import tell

PLAN = {
    "plan": {"steps": [{"id": "s1", "title": "Load"}, {"id": "s2", "title": "Plot", "depends_on": ["s1"]}]}
}


def told(*events: tuple[str, Mapping[str, Any]], attempt: int = 1) -> list[EventRow]:
    return [
        EventRow(
            attempt=attempt,
            seq=number,
            kind=kind,
            step_id=data.get("step_id"),
            at=datetime.now(UTC),
            data=data,
        )
        for number, (kind, data) in enumerate(events, start=1)
    ]


def test_a_step_that_is_fixed() -> None:
    story = tell(
        told(
            ("run_started", {"model": "m", "scripted": True, "sandbox": "namespaces"}),
            ("plan_made", PLAN),
            ("step_started", {"step_id": "s1"}),
            ("code_written", {"step_id": "s1", "execution": 1, "code": "1/0"}),
            (
                "code_executed",
                {"step_id": "s1", "execution": 1, "outcome": "error", "error": "Zero", "seconds": 0.5},
            ),
            ("model_called", {"purpose": "fix", "step_id": "s1"}),
        )
    )
    assert story.scripted
    assert story.activity == "Fixing the code for “Load”"
    assert [step.state for step in story.steps] == ["running", "pending"]
    more = told(
        ("plan_made", PLAN),
        ("step_started", {"step_id": "s1"}),
        ("code_written", {"step_id": "s1", "execution": 1, "code": "1/0"}),
        ("code_written", {"step_id": "s1", "execution": 2, "code": "1"}),
        ("output_written", {"step_id": "s1", "execution": 2, "text": "a"}),
        ("output_written", {"step_id": "s1", "execution": 2, "text": "b"}),
        ("code_executed", {"step_id": "s1", "execution": 2, "outcome": "ok", "output": "ab", "seconds": 1}),
        ("step_finished", {"step_id": "s1", "outcome": "succeeded", "executions": 2}),
    )
    fixed = tell(more).steps[0]
    assert fixed.state == "succeeded"
    assert fixed.fixes == 1
    assert fixed.executions[1].live_output == "ab"
    assert fixed.executions[1].outcome == "ok"


def test_a_later_attempt_goes_on_and_forgets_old_checks() -> None:
    first = told(
        ("plan_made", PLAN),
        ("step_started", {"step_id": "s1"}),
        ("step_finished", {"step_id": "s1", "outcome": "succeeded"}),
        ("step_started", {"step_id": "s2"}),
        ("check_executed", {"round": 1, "check": "c", "outcome": "failed", "detail": "", "code": ""}),
    )
    second = told(("step_restored", {"step_id": "s1"}), ("step_started", {"step_id": "s2"}), attempt=2)
    story = tell([*first, *second])
    assert story.attempt == 2
    assert story.checks == []
    assert story.steps[0].restored
    assert [step.state for step in story.steps] == ["succeeded", "running"]
    assert [note.text for note in story.notes] == ["Attempt 2 goes on from here."]


def test_checks_and_the_end() -> None:
    story = tell(
        told(
            ("plan_made", PLAN),
            ("verification_started", {"round": 1}),
            ("check_executed", {"round": 1, "check": "sum", "outcome": "passed", "detail": "3", "code": "x"}),
        )
    )
    assert story.verifying
    assert story.checks[0].check == "sum"
    ended = tell(told(("plan_made", PLAN), ("verification_started", {"round": 1}), ("run_succeeded", {})))
    assert ended.ended
    assert not ended.verifying
    assert ended.refuted_answer == ""


def test_a_refuted_answer_is_that_of_the_last_attempt() -> None:
    refuted = told(("run_failed", {"error": "A check failed.", "refuted_answer": "It is 7."}))
    assert tell(refuted).refuted_answer == "It is 7."
    assert tell([*refuted, *told(("run_started", {}), attempt=2)]).refuted_answer == ""


def test_what_was_undone_and_what_code_may_use_is_told() -> None:
    undone = {"step_id": "s1", "execution": 1, "outcome": "error", "error": "Zero", "rolled_back": True}
    story = tell(
        told(
            (
                "run_started",
                {"sandbox": "namespaces", "limits": {"seconds": 900, "turns": "many"}, "hosts": ["a.org"]},
            ),
            ("plan_made", PLAN),
            ("step_started", {"step_id": "s1"}),
            ("code_written", {"step_id": "s1", "execution": 1, "code": "1/0"}),
            ("code_executed", undone),
            ("code_written", {"step_id": "s1", "execution": 2, "code": "1"}),
            ("code_executed", {**undone, "execution": 2, "rolled_back": False}),
            ("egress_requested", {"host": "b.org", "outcome": "refused"}),
        )
    )
    assert [one.undone for one in story.steps[0].executions] == [True, False]
    assert story.limits == {"seconds": 900}
    assert story.hosts == ("a.org",)
    assert story.outside.count("refused") == 1
    assert tell(told(("run_started", {}))).hosts is None


def test_strange_events_are_passed_over() -> None:
    story = tell(
        told(
            ("plan_made", {"plan": "none"}),
            ("something_new", {"x": 1}),
            ("code_executed", {"step_id": "s9"}),
            ("check_executed", {}),
        )
    )
    assert [step.id for step in story.steps] == ["s9"]
    assert len(story.checks) == 1
