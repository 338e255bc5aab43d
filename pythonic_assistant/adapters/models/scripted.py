"""A model without a model: prepared code for known prompts, and answers made of what that code printed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from pythonic_assistant.adapters.models.json_values import as_mapping
from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.conversation import Item, Reply, Said
from pythonic_assistant.domain.errors import ModelRefusedError, ModelReplyError
from pythonic_assistant.ports import CodeWanted, JsonWanted, ModelReply, ModelRequest, TextWanted

SCRIPTED_NAME = "scripted-demo"

_RESULT = re.compile(r"^RESULT (\{.*\})[ \t\r]*$", re.MULTILINE)
_TASK_MARK = "The task:"
_NO_FILES = "Files of the person:\n- none"
"""Begins the task in `prompts/plan.md`; what stands before it is the history of the thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedCode:
    """One piece of code, with what the script says about it."""

    thought: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedStep:
    """A step of the plan.

    Attributes:
        goal: unlike any other goal of any scenario, because requests for code are told apart by it.
        codes: in the order in which they are given; the later ones mend the earlier. The last is repeated.
    """

    id: str
    title: str
    goal: str
    proof: str
    codes: tuple[ScriptedCode, ...]
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedProof:
    """An answer, with pairs of a claim and the code that checks it."""

    answer: str
    checks: tuple[tuple[str, str], ...]


Figures = Mapping[str, Any]
"""What the code has printed in lines `RESULT {…}`, later lines over earlier ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A task that the script knows.

    Attributes:
        title: a few words, for a button.
        prompt: what a person asks, word for word.
        inputs: names of the example files that belong to it.
        prove: makes answer and checks of the figures; a KeyError means that they are not all there.
    """

    title: str
    prompt: str
    inputs: tuple[str, ...]
    steps: tuple[ScriptedStep, ...]
    prove: Callable[[Figures], ScriptedProof]


def _last_said(items: Sequence[Item]) -> str:
    return next((item.text for item in reversed(items) if isinstance(item, Said)), "")


class ScriptedModel:
    """Answers the prompts of its scenarios and refuses all others. It keeps nothing between requests."""

    def __init__(self, scenarios: Sequence[Scenario], *, refusal: str) -> None:
        """Take the scenarios; `refusal` is what a person is told about any other prompt."""
        self._scenarios = tuple(scenarios)
        self._refusal = refusal

    @property
    def name(self) -> str:
        """`scripted-demo`."""
        return SCRIPTED_NAME

    @property
    def scripted(self) -> bool:
        """True: no AI answers."""
        return True

    async def close(self) -> None:
        """Nothing is held."""

    async def respond(self, request: ModelRequest) -> ModelReply:
        """Give the next reply of the scenario that the conversation is about.

        Raises:
            ModelRefusedError: no scenario has this prompt.
            ModelReplyError: an answer is wanted before code has printed the figures for it.
        """
        if request.purpose == "probe" or isinstance(request.wanted, TextWanted):
            return _said(Reply(text="ready", model=SCRIPTED_NAME))
        scenario = self._scenario(request.items)
        if request.purpose == "plan" and _NO_FILES in _last_said(request.items):
            raise ModelRefusedError(
                f"Attach a file first: the demo's task “{scenario.title}” works on one, such as "
                f"examples/{scenario.inputs[0]}."
            )
        match request.wanted:
            case CodeWanted():
                part = _next_code(scenario, request.items)
                return _said(Reply(text=part.thought, code=part.code, model=SCRIPTED_NAME))
            case JsonWanted():
                data = (
                    _plan(scenario) if request.purpose == "plan" else _verification(scenario, request.items)
                )
                reply = Reply(text=json.dumps(data, ensure_ascii=False), model=SCRIPTED_NAME)
                return _said(reply, data)
            case _ as never:
                assert_never(never)

    def _scenario(self, items: Sequence[Item]) -> Scenario:
        said = [item.text for item in items if isinstance(item, Said)]
        for text in said:
            task = _plain(text.rpartition(_TASK_MARK)[2])
            for scenario in self._scenarios:
                if task.startswith(_plain(scenario.prompt)):
                    return scenario
        # An attempt that resumes may begin with its finished steps.
        for scenario in self._scenarios:
            if any(step.goal in text for step in scenario.steps for text in said):
                return scenario
        raise ModelRefusedError(self._refusal)


def _plain(text: str) -> str:
    return " ".join(text.split()).lower()


def _next_code(scenario: Scenario, items: Sequence[Item]) -> ScriptedCode:
    """The code of the step that was asked for last, further on by one for each that was given since then."""
    for index in range(len(items) - 1, -1, -1):
        item = items[index]
        if not isinstance(item, Said):
            continue
        step = next((step for step in scenario.steps if step.goal in item.text), None)
        if step is None:
            continue
        given = sum(1 for later in items[index:] if isinstance(later, Reply) and later.code is not None)
        return step.codes[min(given, len(step.codes) - 1)]
    raise ModelReplyError("The scripted demo was asked for code, but for none of its steps.")


def _plan(scenario: Scenario) -> dict[str, Any]:
    return {
        "steps": [
            {
                "id": step.id,
                "title": step.title,
                "goal": step.goal,
                "proof": step.proof,
                "depends_on": list(step.depends_on),
            }
            for step in scenario.steps
        ]
    }


def _verification(scenario: Scenario, items: Sequence[Item]) -> dict[str, Any]:
    try:
        proof = scenario.prove(figures_in(items))
    except (KeyError, IndexError) as error:
        raise ModelReplyError(
            "The scripted demo cannot answer, because its code has not printed the figures for it."
        ) from error
    return {
        "answer": proof.answer,
        "checks": [{"claim": claim, "code": code} for claim, code in proof.checks],
    }


def figures_in(items: Sequence[Item]) -> dict[str, Any]:
    """Read the figures that code has printed, out of everything that is not the model's own words."""
    figures: dict[str, Any] = {}
    for item in items:
        if isinstance(item, Reply):
            continue
        for line in _RESULT.findall(item.text):
            try:
                figures.update(as_mapping(json.loads(line)))
            except ValueError:
                continue
    return figures


def _said(reply: Reply, data: Mapping[str, Any] | None = None) -> ModelReply:
    return ModelReply(reply=reply, data=data, usage=Usage(turns=1, cost=0.0))
