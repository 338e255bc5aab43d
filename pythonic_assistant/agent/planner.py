"""The plan of a run: asked of the model, or taken over from an earlier attempt with its finished steps."""

from __future__ import annotations

from pythonic_assistant.agent.dialogue import Dialogue
from pythonic_assistant.agent.reading import output_of
from pythonic_assistant.agent.schemas import PLAN_SCHEMA, read_plan
from pythonic_assistant.agent.workspace import Workspace
from pythonic_assistant.domain.conversation import Said
from pythonic_assistant.domain.effect import Place
from pythonic_assistant.domain.errors import InvalidInputError, ModelReplyError
from pythonic_assistant.domain.event import Noted, PlanMade, StepRestored
from pythonic_assistant.domain.plan import Plan
from pythonic_assistant.domain.task import Resume, RunRequest
from pythonic_assistant.ports import JsonWanted
from pythonic_assistant.prompts.rendering import render


async def make_plan(dialogue: Dialogue, request: RunRequest, *, tries: int = 2) -> Plan:
    """Ask the model for a plan; an impossible one is explained to it and asked for again.

    One that an earlier attempt was given is taken over.

    Raises:
        ModelReplyError: no usable plan after `tries` replies.
    """
    dialogue.add(Said(text=_task_text(request)))
    problem = ""
    for _ in range(tries):
        answer = await dialogue.ask("plan", JsonWanted(name="plan", schema=PLAN_SCHEMA))
        try:
            plan = read_plan(answer.data or {})
        except InvalidInputError as error:
            problem = str(error)
            dialogue.add(Said(text=render("plan_again", problem=problem)))
        else:
            if request.resume is None or request.resume.plan != plan:
                dialogue.emit(PlanMade(plan=plan))
            return plan
    raise ModelReplyError(f"The model made no usable plan. {problem}")


async def restore(
    dialogue: Dialogue, workspace: Workspace, request: RunRequest, resume: Resume
) -> frozenset[str]:
    """Rebuild the state after the finished steps of an earlier attempt whose conversation is not kept.

    No model is asked. The steps are run again in the order of the plan. Where one does not run any more, it
    and all after it are left to be done anew.

    Returns the ids of the steps that were restored.
    """
    dialogue.add(Said(text=_task_text(request)))
    dialogue.add(
        Said(
            text="Your plan:\n"
            + "\n".join(f"- {step.id}: {step.title}. {step.goal}" for step in resume.plan.steps)
        )
    )
    finished = {step.step_id: step for step in resume.finished}
    restored: set[str] = set()
    for step in resume.plan.steps:
        record = finished.get(step.id)
        if record is None:
            break
        execution = await workspace.restore(
            record.code,
            timeout=min(dialogue.budget.execution_seconds, dialogue.seconds_left),
            place=Place(step_id=step.id),
        )
        if execution.outcome != "ok":
            dialogue.emit(
                Noted(
                    text=f"Step {step.id} could not be rebuilt from its recorded code, so it is done anew.",
                    level="warning",
                )
            )
            break
        dialogue.add(
            Said(text=render("step_restored", step=step, code=record.code, output=output_of(execution)))
        )
        dialogue.emit(StepRestored(step_id=step.id))
        restored.add(step.id)
    return frozenset(restored)


def _task_text(request: RunRequest) -> str:
    places = {variable.path.as_posix() for variable in request.saved}
    return render(
        "plan",
        prompt=request.prompt,
        files=[file for file in request.files if f"inputs/{file.name}" not in places],
        history=request.history,
        saved=[
            {
                "name": variable.name,
                "type": variable.type,
                "shape": variable.shape,
                # The line has one place to fill; `format` would read everything else in it too.
                "load": variable.load.replace("{path!r}", repr(variable.path.as_posix())),
            }
            for variable in request.saved
        ],
    )
