"""Plans, verdicts and budgets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythonic_assistant.domain.budget import Budget, Usage, ensure_turn
from pythonic_assistant.domain.errors import BudgetExceededError, InvalidInputError
from pythonic_assistant.domain.plan import Step, plan_of
from pythonic_assistant.domain.verdict import Evidence, verdict_of


def step(name: str, *depends_on: str) -> Step:
    return Step(id=name, title=name, goal=name, proof=name, depends_on=depends_on)


def test_steps_come_after_what_they_depend_on_and_keep_their_order() -> None:
    plan = plan_of([step("a", "c"), step("b"), step("c")])
    assert [item.id for item in plan.steps] == ["b", "c", "a"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20))
def test_any_plan_is_ordered_or_refused(edges: list[tuple[int, int]]) -> None:
    steps = [
        step(str(number), *sorted({str(before) for after, before in edges if after == number}))
        for number in range(10)
    ]
    try:
        plan = plan_of(steps)
    except InvalidInputError as error:
        assert "depend on each other" in str(error)
        return
    seen: set[str] = set()
    for item in plan.steps:
        assert set(item.depends_on) <= seen
        seen.add(item.id)
    assert len(seen) == 10


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([], "no step"),
        ([step("a"), step("a")], "same id"),
        ([step("a", "z")], "depends on z"),
        ([step("a", "b"), step("b", "a")], "depend on each other"),
        ([step(str(number)) for number in range(13)], "13 steps"),
    ],
)
def test_impossible_plans_are_refused_in_words(steps: list[Step], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        plan_of(steps)


def evidence(outcome: str) -> Evidence:
    return Evidence(check="c", outcome=outcome, detail="")  # type: ignore[arg-type]  # parametrised below


@pytest.mark.parametrize(
    ("claims", "files", "kind"),
    [
        ((), (), "unverified"),
        ((), ("passed",), "unverified"),
        ((), ("failed",), "refuted"),
        (("passed",), (), "proven"),
        (("passed",), ("passed",), "proven"),
        (("passed", "failed"), (), "refuted"),
        (("passed",), ("failed",), "refuted"),
    ],
)
def test_only_executed_checks_decide(claims: tuple[str, ...], files: tuple[str, ...], kind: str) -> None:
    verdict = verdict_of(claims=tuple(map(evidence, claims)), files=tuple(map(evidence, files)))
    assert verdict.kind == kind
    assert len(verdict.evidence) == len(claims) + len(files)


def test_unknown_cost_is_not_zero_cost() -> None:
    assert (Usage(turns=1) + Usage(turns=2)).cost is None
    assert (Usage(cost=0.5) + Usage()).cost == 0.5
    assert (Usage(cost=0.5) + Usage(cost=0.25)).cost == 0.75


@pytest.mark.parametrize(
    ("budget", "usage", "elapsed", "limit"),
    [
        (Budget(turns=3), Usage(turns=3), 0.0, "turns"),
        (Budget(tokens=10), Usage(input_tokens=4, output_tokens=6), 0.0, "tokens"),
        (Budget(seconds=5), Usage(), 5.0, "seconds"),
    ],
)
def test_a_spent_limit_is_named(budget: Budget, usage: Usage, elapsed: float, limit: str) -> None:
    with pytest.raises(BudgetExceededError) as caught:
        ensure_turn(budget, usage, elapsed)
    assert caught.value.limit == limit
