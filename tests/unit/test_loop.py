"""The loop's policy, with a model that follows a list and a sandbox without walls."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pythonic_assistant.agent import loop
from pythonic_assistant.domain.budget import Budget, Usage
from pythonic_assistant.domain.conversation import CodeResult, Reply, Said
from pythonic_assistant.domain.errors import ModelRefusedError, ModelReplyError, ModelUnavailableError
from pythonic_assistant.domain.event import Event, RunFailed, RunSucceeded
from pythonic_assistant.domain.plan import Plan, Step
from pythonic_assistant.domain.price import Price
from pythonic_assistant.domain.task import FinishedStep, Resume, RunRequest
from tests.fakes import ListedModel, OpenSandbox, code, plan, verification, words


class Bench:
    def __init__(self, folder: Path) -> None:
        self.sandbox = OpenSandbox(folder)
        self.outbox = folder / "outbox"
        self.outbox.mkdir()
        self.model = ListedModel([])
        self.events: list[Event] = []

    async def run(self, *replies: Any, **request: Any) -> RunSucceeded | RunFailed:
        self.model = ListedModel(list(replies))
        await loop.run(
            RunRequest(**({"prompt": "do it"} | request)),
            model=self.model,
            sandbox=self.sandbox,
            outbox=self.outbox,
            emit=self.events.append,
        )
        last = self.events[-1]
        assert isinstance(last, RunSucceeded | RunFailed)
        return last

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events if not event.kind.startswith(("model_", "item_"))]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_task_whose_check_passes_is_proven(bench: Bench) -> None:
    end = await bench.run(
        plan("s1"), code("x = 6 * 7\nprint(x)"), verification("It is 42.", "assert x == 42")
    )
    assert isinstance(end, RunSucceeded)
    assert end.verdict.kind == "proven"
    assert [item.outcome for item in end.verdict.evidence] == ["passed"]
    assert end.usage.turns == 3
    assert end.usage.input_tokens == 30
    assert bench.kinds() == [
        "run_started", "plan_made", "step_started", "code_written", "output_written", "code_executed",
        "step_finished", "verification_started", "check_executed",
        "variable_saved", "variable_saved", "run_succeeded",
    ]  # fmt: skip
    assert bench.sandbox.sessions[0].closed


async def test_failing_code_is_fed_back_and_mended(bench: Bench) -> None:
    end = await bench.run(
        plan("s1"),
        code("total = missing + 1"),
        code("total = 2"),
        verification("2", "assert total == 2"),
    )
    assert isinstance(end, RunSucceeded)
    fix = bench.model.requests[2]
    assert fix.purpose == "fix"
    failure = fix.items[-1]
    assert isinstance(failure, CodeResult)
    assert failure.call_id == "call"
    assert "NameError" in failure.text
    assert "SESSION: int" in failure.text, "the variables that are alive are told"
    assert isinstance(fix.items[-2], Reply)
    assert fix.items[-2].code == "total = missing + 1"
    assert "4 of 5 executions are left" in failure.text
    finished = next(event for event in bench.events if event.kind == "step_finished")
    assert finished.executions == 2
    assert finished.code == "total = 2"


async def test_a_step_that_never_works_fails_after_its_executions(bench: Bench) -> None:
    end = await bench.run(plan("s1", "s2"), *[code("1 / 0")] * 5)
    assert isinstance(end, RunFailed)
    assert not end.retryable
    assert "ZeroDivisionError" in end.error
    assert "5 executions" in end.error
    assert bench.kinds().count("code_executed") == 5
    assert "s2" not in [getattr(event, "step_id", None) for event in bench.events]


async def test_a_reply_without_code_is_asked_for_again(bench: Bench) -> None:
    end = await bench.run(
        plan("s1"), words("I would rather talk."), code("x = 1"), verification("1", "assert x")
    )
    assert isinstance(end, RunSucceeded)
    said = bench.model.requests[2].items[-1]
    assert isinstance(said, Said)
    assert "no Python" in said.text


async def test_an_answer_without_checks_is_unverified(bench: Bench) -> None:
    end = await bench.run(plan("s1"), code("x = 1"), verification("A poem."))
    assert isinstance(end, RunSucceeded)
    assert end.verdict.kind == "unverified"


async def test_files_that_open_do_not_prove_words(bench: Bench) -> None:
    end = await bench.run(
        plan("s1"),
        code("import pathlib; pathlib.Path('note.txt').write_text('hello')"),
        verification("See `note.txt`."),
    )
    assert isinstance(end, RunSucceeded)
    assert end.verdict.kind == "unverified"
    assert [item.check for item in end.verdict.evidence] == ["note.txt opens"]
    assert (bench.outbox / "note.txt").read_text() == "hello"


async def test_a_file_that_is_only_claimed_refutes(bench: Bench) -> None:
    round_ = [verification("See `plot.png`.", "assert x == 1"), code("print('looked')")]
    end = await bench.run(plan("s1"), code("x = 1"), *round_, *round_, round_[0])
    assert isinstance(end, RunFailed)
    assert "plot.png" in end.error
    assert [item.check for item in end.evidence if item.outcome == "failed"] == [
        "plot.png, which the answer names, was left"
    ]


async def test_a_refuted_answer_is_mended_and_then_proven(bench: Bench) -> None:
    end = await bench.run(
        plan("s1"),
        code("x = 1"),
        verification("It is 2.", "assert x == 2, x"),
        code("x = 2"),
        verification("It is 2.", "assert x == 2, x"),
    )
    assert isinstance(end, RunSucceeded)
    assert end.verdict.kind == "proven"
    assert bench.kinds().count("verification_started") == 2
    refuted = bench.model.requests[3].items[-1]
    assert isinstance(refuted, Said)
    assert "AssertionError: 1" in refuted.text


async def test_an_answer_that_stays_refuted_fails_after_three_rounds(bench: Bench) -> None:
    wrong = verification("It is 2.", "assert x == 2")
    end = await bench.run(plan("s1"), code("x = 1"), wrong, code("pass"), wrong, code("pass"), wrong)
    assert isinstance(end, RunFailed)
    assert "1 of 1 checks failed" in end.error
    assert end.refuted_answer == "It is 2."
    assert [item.outcome for item in end.evidence] == ["failed"]
    assert not bench.model.replies


@pytest.mark.parametrize(
    "toothless",
    [
        "print('fine')",
        "assert True",
        "try:\n    assert x == 2\nexcept AssertionError:\n    pass",
        "assert x ==",
    ],
)
async def test_a_check_that_cannot_fail_is_no_evidence(bench: Bench, toothless: str) -> None:
    end = await bench.run(
        plan("s1"), code("x = 1"), verification("2", toothless), verification("2", toothless)
    )
    assert isinstance(end, RunSucceeded)
    assert end.verdict.kind == "unverified"
    assert end.verdict.evidence == ()
    explained = bench.model.requests[3].items[-1]
    assert isinstance(explained, Said)
    assert "cannot be used" in explained.text


async def test_a_check_cannot_make_its_own_evidence(bench: Bench) -> None:
    write = "import pathlib\npathlib.Path('result.csv').write_text({!r})\n"
    forge = write.format("99") + "assert pathlib.Path('result.csv').read_text() == '99'"
    round_ = [verification("99", forge), code("print('looked')")]
    end = await bench.run(plan("s1"), code(write.format("10")), *round_, *round_, round_[0])
    assert isinstance(end, RunFailed)
    (failed,) = [item for item in end.evidence if item.outcome == "failed"]
    assert failed.check == forge
    assert "Read-only file system" in failed.detail
    assert (bench.outbox / "result.csv").read_text() == "10", "the person gets what the work made"


async def test_the_session_is_rebuilt_with_the_same_chance(bench: Bench) -> None:
    await bench.run(
        plan("s1", "s2"),
        code("a = 1"),
        code("DIE_HARD"),
        code("b = 1"),
        verification("1", "assert b"),
        seed=7,
    )
    assert [session.seed for session in bench.sandbox.sessions] == [7, 7]


async def test_checks_can_read_the_answer(bench: Bench) -> None:
    end = await bench.run(plan("s1"), code("x = 42"), verification("It is 42.", "assert str(x) in ANSWER"))
    assert isinstance(end, RunSucceeded)
    assert end.verdict.kind == "proven"


async def test_an_impossible_plan_is_explained_and_asked_again(bench: Bench) -> None:
    end = await bench.run(plan("s1", "s1"), plan("s1"), code("x = 1"), verification("1", "assert x"))
    assert isinstance(end, RunSucceeded)
    said = bench.model.requests[1].items[-1]
    assert isinstance(said, Said)
    assert "same id" in said.text


async def test_two_impossible_plans_end_the_run(bench: Bench) -> None:
    end = await bench.run(plan(), plan())
    assert isinstance(end, RunFailed)
    assert "no step" in end.error


async def test_finished_steps_are_rebuilt_without_asking_the_model(bench: Bench) -> None:
    steps = tuple(Step(id=name, title=name, goal=name, proof="") for name in ("s1", "s2"))
    resume = Resume(plan=Plan(steps=steps), finished=(FinishedStep(step_id="s1", code="a = 20", output=""),))
    end = await bench.run(code("b = a + 1"), verification("21", "assert b == 21"), resume=resume)
    assert isinstance(end, RunSucceeded)
    assert [request.purpose for request in bench.model.requests] == ["code", "verify"]
    assert "step_restored" in bench.kinds()
    assert "plan_made" not in bench.kinds()
    assert bench.sandbox.sessions[0].ran[0] == "a = 20"


async def test_a_step_that_cannot_be_rebuilt_is_done_anew(bench: Bench) -> None:
    steps = tuple(Step(id=name, title=name, goal=name, proof="") for name in ("s1", "s2"))
    resume = Resume(
        plan=Plan(steps=steps),
        finished=(
            FinishedStep(step_id="s1", code="a = gone", output=""),
            FinishedStep(step_id="s2", code="b = a", output=""),
        ),
    )
    end = await bench.run(code("a = 1"), code("b = 2"), verification("2", "assert b == 2"), resume=resume)
    assert isinstance(end, RunSucceeded)
    assert "step_restored" not in bench.kinds()
    assert [event.step_id for event in bench.events if event.kind == "step_started"] == ["s1", "s2"]


async def test_a_session_that_dies_is_rebuilt_for_the_fix(bench: Bench) -> None:
    end = await bench.run(
        plan("s1", "s2"),
        code("a = 1"),
        code("DIE_HARD"),
        code("b = a + SESSION"),
        verification("2", "assert b == 2"),
    )
    assert isinstance(end, RunSucceeded)
    assert len(bench.sandbox.sessions) == 2
    assert bench.sandbox.sessions[0].closed
    failure = bench.model.requests[3].items[-1]
    assert isinstance(failure, CodeResult)
    assert "1,024 MiB of memory" in failure.text
    assert "files that this code wrote are gone" in failure.text
    (rolled_back,) = [
        e.rolled_back for e in bench.events if e.kind == "code_executed" and e.outcome == "died"
    ]
    assert rolled_back


@pytest.mark.parametrize(
    ("budget", "word"), [(Budget(turns=2), "2 model replies"), (Budget(tokens=20), "20 tokens")]
)
async def test_a_spent_budget_ends_the_run_with_its_name(bench: Bench, budget: Budget, word: str) -> None:
    end = await bench.run(plan("s1"), code("x = 1"), budget=budget)
    assert isinstance(end, RunFailed)
    assert word in end.error
    assert not end.retryable


async def test_money_is_a_budget_where_the_price_is_known_and_earlier_attempts_count(bench: Bench) -> None:
    price = Price(input_per_million=1000, output_per_million=1000)
    end = await bench.run(plan("s1"), code("x = 1"), budget=Budget(cost=0.03), price=price)
    assert isinstance(end, RunFailed)
    assert "The limit of $0.03 for one task is spent." in end.error
    assert end.usage.cost == pytest.approx(0.03)
    assert [event.usage.cost for event in bench.events if event.kind == "model_replied"] == [0.015, 0.015]
    end = await bench.run(plan("s1"), budget=Budget(cost=0.03), price=price, spent=Usage(cost=0.015))
    assert "The limit of $0.03 for one task is spent." in end.error
    assert end.usage.cost == pytest.approx(0.03), "what earlier attempts spent counts"
    end = await bench.run(plan("s1"), code("x = 1"), budget=Budget(cost=0.01, tokens=20))
    assert "20 tokens" in end.error, "without a price only tokens are kept"
    assert end.usage.cost is None


async def test_useless_replies_are_paid_for_too(bench: Bench) -> None:
    def refuse(_request: object) -> Any:
        raise ModelReplyError("no usable reply", usage=Usage(turns=2, input_tokens=4000))

    end = await bench.run(refuse, price=Price(input_per_million=1000, output_per_million=0))
    assert isinstance(end, RunFailed)
    assert (end.usage.turns, end.usage.cost) == (2, pytest.approx(4.0))
    assert [event.usage for event in bench.events if event.kind == "model_replied"] == [end.usage]


@pytest.mark.parametrize(
    ("error", "retryable"), [(ModelUnavailableError("no route"), True), (ModelRefusedError("bad key"), False)]
)
async def test_errors_of_the_model_become_the_end_of_the_run(
    bench: Bench, error: Exception, retryable: bool
) -> None:
    def refuse(_request: object) -> Any:
        raise error

    end = await bench.run(refuse)
    assert isinstance(end, RunFailed)
    assert end.error == str(error)
    assert end.retryable is retryable


async def test_an_empty_prompt_is_a_clear_sentence(bench: Bench) -> None:
    end = await bench.run(prompt="  ")
    assert isinstance(end, RunFailed)
    assert "prompt is empty" in end.error


async def test_a_probe_proves_that_the_model_replies(bench: Bench) -> None:
    end = await bench.run(words("ready"), kind="probe")
    assert isinstance(end, RunSucceeded)
    assert end.verdict.kind == "proven"
    assert "“ready”" in end.verdict.evidence[0].detail
    assert not bench.sandbox.sessions


async def test_the_conversation_only_grows(bench: Bench) -> None:
    await bench.run(plan("s1"), code("1/0"), code("x = 1"), verification("1", "assert x"))
    requests = bench.model.requests
    for earlier, later in pairwise(requests):
        assert tuple(later.items)[: len(earlier.items)] == tuple(earlier.items)
        assert later.instructions == earlier.instructions
