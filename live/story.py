"""What a card tells of a task: its events folded into steps, executions, checks and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast

from live.outside import Outside
from live.rows import EventRow, texts

StepState = Literal["pending", "running", "succeeded", "failed"]
# What a card keeps of the output of running code; all of it is in the event that ends the execution.
LIVE_OUTPUT_CHARACTERS = 20_000


@dataclass(slots=True, kw_only=True)
class Told:
    """One execution of a step's code. `undone`: what it did to variables was taken back."""

    number: int
    code: str
    thought: str = ""
    live_output: str = ""
    outcome: str | None = None
    output: str = ""
    error: str = ""
    seconds: float | None = None
    undone: bool = False


@dataclass(slots=True, kw_only=True)
class ToldStep:
    """A step of the plan as far as it has come."""

    id: str
    title: str
    goal: str = ""
    proof: str = ""
    depends_on: tuple[str, ...] = ()
    state: StepState = "pending"
    restored: bool = False
    error: str = ""
    output: str = ""
    code: str = ""
    executions: list[Told] = field(default_factory=list[Told])

    @property
    def fixes(self) -> int:
        """Executions beyond the first."""
        return max(len(self.executions) - 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """An executed check."""

    round: int
    check: str
    outcome: str
    detail: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A sentence for the person."""

    text: str
    level: str


@dataclass(slots=True, kw_only=True)
class Story:
    """All that the events of a task tell.

    Attributes:
        activity: what happens now, "" when nothing does.
        limits: of the last attempt, by the names of `pythonic_assistant.domain.limits.LEAST`.
        hosts: that the code of the last attempt may reach; None when it was not told.
    """

    model: str = ""
    scripted: bool = False
    sandbox: str = ""
    limits: Mapping[str, float] = field(default_factory=dict[str, float])
    hosts: tuple[str, ...] | None = None
    outside: Outside = field(default_factory=Outside)
    attempt: int = 0
    activity: str = ""
    steps: list[ToldStep] = field(default_factory=list[ToldStep])
    checks: list[Check] = field(default_factory=list[Check])
    rounds: int = 0
    verifying: bool = False
    notes: list[Note] = field(default_factory=list[Note])
    replies: int = 0
    ended: bool = False
    refuted_answer: str = ""
    last_at: datetime | None = None

    @property
    def fixes(self) -> int:
        """Executions beyond the first, of all steps."""
        return sum(step.fixes for step in self.steps)


def tell(events: Sequence[EventRow]) -> Story:
    """Fold events, in order, over all attempts. Unknown kinds and missing fields are passed over."""
    story = Story()
    for event in events:
        if event.attempt != story.attempt:
            _begin_attempt(story, event.attempt)
        story.last_at = event.at
        _apply(story, event)
    return story


def _begin_attempt(story: Story, attempt: int) -> None:
    if story.attempt:
        story.notes.append(Note(text=f"Attempt {attempt} goes on from here.", level="info"))
    story.attempt = attempt
    story.activity, story.verifying, story.ended = "Starting", False, False
    story.checks, story.rounds, story.refuted_answer = [], 0, ""
    for step in story.steps:
        if step.state != "succeeded":
            step.state, step.error = "pending", ""


def _apply(story: Story, event: EventRow) -> None:
    data = event.data
    match event.kind:
        case "run_started":
            story.model = _text(data, "model")
            story.scripted = bool(data.get("scripted"))
            story.sandbox = _text(data, "sandbox")
            _take_limits(story, data)
        case "model_called":
            story.activity = _asking(story, _text(data, "purpose"), event.step_id)
        case "model_replied":
            story.replies += 1
            story.activity = "Reading the reply"
        case "plan_made":
            story.steps = _steps(data.get("plan"))
            story.activity = ""
        case (
            "step_started"
            | "step_restored"
            | "code_written"
            | "output_written"
            | "code_executed"
            | "step_finished"
        ):
            _apply_to_step(story, event)
        case "verification_started":
            story.rounds = _whole(data, "round")
            story.verifying = True
            story.activity = "Checking the answer"
        case "check_executed":
            story.checks.append(
                Check(
                    round=_whole(data, "round"),
                    check=_text(data, "check"),
                    outcome=_text(data, "outcome"),
                    detail=_text(data, "detail"),
                    code=_text(data, "code"),
                )
            )
        case "noted":
            story.notes.append(Note(text=_text(data, "text"), level=_text(data, "level") or "info"))
        case "run_succeeded" | "run_failed":
            story.activity, story.verifying, story.ended = "", False, True
            story.refuted_answer = _text(data, "refuted_answer")
            for step in story.steps:
                if step.state == "running":
                    step.state = "failed" if event.kind == "run_failed" else "succeeded"
        case _:
            story.outside.take(event.kind, data)


def _take_limits(story: Story, data: Mapping[str, Any]) -> None:
    limits, hosts = data.get("limits"), data.get("hosts")
    if isinstance(limits, dict):
        given = cast("dict[str, Any]", limits)
        story.limits = {name: value for name, value in given.items() if isinstance(value, int | float)}
    if isinstance(hosts, list):
        story.hosts = texts(cast("list[Any]", hosts))


def _apply_to_step(story: Story, event: EventRow) -> None:
    data, step = event.data, _step(story, event.step_id or _text(event.data, "step_id"))
    number = _whole(data, "execution")
    match event.kind:
        case "step_started":
            step.state, step.error, step.executions = "running", "", []
            story.activity = ""
        case "step_restored":
            step.state, step.restored = "succeeded", True
        case "code_written":
            step.executions.append(
                Told(number=number, code=_text(data, "code"), thought=_text(data, "thought"))
            )
            story.activity = "Running the code" if number <= 1 else "Running the fixed code"
        case "output_written":
            told = _execution(step, number)
            told.live_output = (told.live_output + _text(data, "text"))[-LIVE_OUTPUT_CHARACTERS:]
        case "code_executed":
            told = _execution(step, number)
            told.outcome, told.output = _text(data, "outcome"), _text(data, "output")
            told.error, told.seconds = _text(data, "error"), _seconds(data)
            told.undone = bool(data.get("rolled_back"))
            story.activity = "" if told.outcome == "ok" else "Looking at the error"
        case "step_finished":
            step.state = "succeeded" if data.get("outcome") == "succeeded" else "failed"
            step.error, step.output, step.code = (
                _text(data, "error"),
                _text(data, "output"),
                _text(data, "code"),
            )
            story.activity = ""
        case _:
            return


def _asking(story: Story, purpose: str, step_id: str | None) -> str:
    title = next((step.title for step in story.steps if step.id == step_id), "")
    about = f" for “{title}”" if title else ""
    return {
        "plan": "Making a plan",
        "code": f"Writing code{about}",
        "fix": f"Fixing the code{about}",
        "verify": "Thinking of checks",
        "probe": "Asking the model",
    }.get(purpose, "Asking the model")


def _steps(plan: Any) -> list[ToldStep]:
    if not isinstance(plan, dict):
        return []
    given: Any = cast("dict[str, Any]", plan).get("steps")
    steps: list[ToldStep] = []
    for item in cast("list[Any]", given) if isinstance(given, list) else []:
        if isinstance(item, dict):
            step = cast("Mapping[str, Any]", item)
            steps.append(
                ToldStep(
                    id=_text(step, "id"),
                    title=_text(step, "title") or _text(step, "id"),
                    goal=_text(step, "goal"),
                    proof=_text(step, "proof"),
                    depends_on=tuple(str(name) for name in cast("list[Any]", step.get("depends_on") or [])),
                )
            )
    return steps


def _step(story: Story, step_id: str) -> ToldStep:
    for step in story.steps:
        if step.id == step_id:
            return step
    step = ToldStep(id=step_id, title=f"Step {step_id}")
    story.steps.append(step)
    return step


def _execution(step: ToldStep, number: int) -> Told:
    for told in reversed(step.executions):
        if told.number == number:
            return told
    told = Told(number=number, code="")
    step.executions.append(told)
    return told


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def _whole(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    return value if isinstance(value, int) else 0


def _seconds(data: Mapping[str, Any]) -> float | None:
    value = data.get("seconds")
    return float(value) if isinstance(value, int | float) else None
