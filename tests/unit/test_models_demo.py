"""The scripted model by itself: finding the scenario, the step, and the figures."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pythonic_assistant.adapters.models.demo import DEMO_SCENARIOS, demo_model, demo_prompts
from pythonic_assistant.adapters.models.scripted import figures_in
from pythonic_assistant.agent.schemas import PLAN_SCHEMA, VERIFICATION_SCHEMA, read_plan
from pythonic_assistant.domain.conversation import CodeResult, Item, Reply, Said
from pythonic_assistant.domain.errors import ModelRefusedError, ModelReplyError
from pythonic_assistant.ports import CodeWanted, JsonWanted, ModelReply, ModelRequest, TextWanted

EXAMPLES = Path(__file__).parents[2] / "examples"
PLAN = JsonWanted(name="plan", schema=PLAN_SCHEMA)
VERIFICATION = JsonWanted(name="verification", schema=VERIFICATION_SCHEMA)
PLOT = DEMO_SCENARIOS[0]


async def ask(
    wanted: TextWanted | CodeWanted | JsonWanted, *items: Item, purpose: str = "code"
) -> ModelReply:
    return await demo_model().respond(
        ModelRequest(purpose=purpose, instructions="", items=items, wanted=wanted)  # type: ignore[arg-type]  # a literal
    )


def test_there_are_four_tasks_with_files_that_exist() -> None:
    assert len(demo_prompts()) == 4
    for title, prompt, names in demo_prompts():
        assert title
        assert prompt
        assert all((EXAMPLES / name).is_file() for name in names)
    goals = [step.goal for scenario in DEMO_SCENARIOS for step in scenario.steps]
    assert len(goals) == len(set(goals))


def test_the_example_is_the_whole_table() -> None:
    with (EXAMPLES / "penguins.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 344
    assert {row["species"] for row in rows} == {"Adelie", "Chinstrap", "Gentoo"}


async def test_plans_can_be_read_and_have_two_or_three_steps() -> None:
    for scenario in DEMO_SCENARIOS:
        answered = await ask(PLAN, Said(text=f"  {scenario.prompt.upper()}\n"), purpose="plan")
        assert answered.data is not None
        assert 2 <= len(read_plan(answered.data).steps) <= 3
        assert answered.usage.turns == 1


async def test_code_goes_on_from_what_was_given() -> None:
    step = PLOT.steps[1]
    items: list[Item] = [Said(text=PLOT.prompt), Said(text=f"Goal: {step.goal}")]
    given: list[str | None] = []
    for _ in range(3):
        answered = await ask(CodeWanted(), *items)
        given.append(answered.reply.code)
        items += [answered.reply, CodeResult(text="The code failed")]
    assert given == [step.codes[0].code, step.codes[1].code, step.codes[1].code]


async def test_an_attempt_that_resumes_goes_on() -> None:
    resumed = Said(text="Your plan:\n" + "\n".join(f"- {step.title}. {step.goal}" for step in PLOT.steps))
    answered = await ask(CodeWanted(), resumed, Said(text=PLOT.steps[1].goal))
    assert answered.reply.code == PLOT.steps[1].codes[0].code


async def test_no_figures_no_answer() -> None:
    with pytest.raises(ModelReplyError, match="has not printed"):
        await ask(VERIFICATION, Said(text=PLOT.prompt), purpose="verify")


async def test_another_prompt_is_refused() -> None:
    for prompt in ("What is 2 + 2?", f"[user] {PLOT.prompt}\n\nThe task:\nSomething else"):
        with pytest.raises(ModelRefusedError, match="OPENAI_API_KEY"):
            await ask(PLAN, Said(text=prompt), purpose="plan")


async def test_the_probe_is_answered() -> None:
    answered = await ask(TextWanted(), Said(text="Reply with the single word: ready"), purpose="probe")
    assert answered.reply.text == "ready"
    assert demo_model().scripted
    assert demo_model().name == "scripted-demo"


def test_figures_are_read_from_results_and_never_from_replies() -> None:
    figures = figures_in(
        [
            CodeResult(text='Output:\nRESULT {"a": 1, "b": 1}\nmore'),
            CodeResult(text='RESULT {"b": 2}  \nprint("RESULT " + x)\nRESULT {broken}'),
            Reply(text='RESULT {"a": 9}'),
            Said(text='It had printed:\nRESULT {"c": 3}'),
        ]
    )
    assert figures == {"a": 1, "b": 2, "c": 3}
