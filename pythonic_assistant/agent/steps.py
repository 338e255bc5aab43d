"""One step: write code, run it, read the error, mend it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pythonic_assistant.agent.dialogue import Dialogue
from pythonic_assistant.agent.limits_told import LimitsTold
from pythonic_assistant.agent.reading import output_of, table_of
from pythonic_assistant.agent.static_check import Reading, package_of
from pythonic_assistant.agent.workspace import Workspace
from pythonic_assistant.domain.conversation import CodeResult, Said
from pythonic_assistant.domain.effect import Place
from pythonic_assistant.domain.errors import BudgetExceededError
from pythonic_assistant.domain.event import (
    CodeExecuted,
    CodeWritten,
    Noted,
    OutputWritten,
    StepFinished,
    StepRestored,
    StepStarted,
)
from pythonic_assistant.domain.execution import Execution
from pythonic_assistant.domain.plan import Step
from pythonic_assistant.ports import CodeWanted
from pythonic_assistant.prompts.rendering import render

LIVE_CHARACTERS = 64_000
"""Of one execution's output, handed on as it comes: printing for ever must not fill the database."""


async def work_on(
    dialogue: Dialogue,
    workspace: Workspace,
    step: Step,
    *,
    limits: LimitsTold,
    prompt: str | None = None,
    purpose: Literal["code", "fix"] = "code",
    finished_before: bool = False,
) -> StepFinished:
    """Work on a step until its code runs to its end or its executions are spent.

    Code that reading shows to be impossible is not run, but counts as an execution. What an earlier attempt
    did is taken over: code that failed was undone, so it is not run again; code that succeeded is rebuilt.

    Args:
        finished_before: the step is known to have been finished by an earlier attempt.
        limits: tells the person which were hit.
        prompt: what to say to the model instead of the step's own words.

    Returns the event that was emitted last; its outcome tells whether the step was reached.
    """
    if not finished_before:
        dialogue.emit(StepStarted(step_id=step.id))
    dialogue.add(
        Said(text=prompt or render("step", step=step, variables=table_of(await workspace.variables())))
    )
    most = dialogue.budget.executions_per_step
    finished = StepFinished(
        step_id=step.id, outcome="failed", code="", output="", executions=0, error="No code was run."
    )
    for number in range(1, most + 1):
        answer = await dialogue.ask(purpose if number == 1 else "fix", CodeWanted(), step_id=step.id)
        code = answer.reply.code
        if code is None or not code.strip():
            dialogue.add(Said(text=render("no_code")))
            continue
        before = dialogue.result_before()
        if before is not None and not before.succeeded:
            dialogue.add(before)
            await workspace.recall(code)
            finished = replace(finished, code=code, executions=number, error=before.text)
            continue
        if before is not None and (again := await _rebuilt(dialogue, workspace, step.id, number, code)):
            dialogue.add(before)
            if finished_before:
                dialogue.emit(StepRestored(step_id=step.id))
                return replace(finished, outcome="succeeded", code=code, output=again, executions=number)
            finished = replace(
                finished, outcome="succeeded", code=code, output=again, executions=number, error=""
            )
            break
        if finished_before:  # its record ends before it does: it is done anew from here
            finished_before = False
            dialogue.emit(StepStarted(step_id=step.id))
        dialogue.emit(
            CodeWritten(step_id=step.id, execution=number, code=code, thought=answer.reply.text.strip())
        )
        reading = await workspace.read(code)
        place = Place(step_id=step.id, execution=number, items=len(dialogue.items))
        execution = await _run(dialogue, workspace, limits, place, code, reading)
        output = output_of(execution)
        succeeded = execution.outcome == "ok"
        finished = StepFinished(
            step_id=step.id,
            outcome="succeeded" if succeeded else "failed",
            code=code,
            output=output,
            executions=number,
            error=execution.error,
        )
        if succeeded:
            dialogue.add(
                CodeResult(
                    text=render("success", output=output), call_id=answer.reply.call_id, succeeded=True
                )
            )
            workspace.keep(code, place)
            break
        dialogue.add(
            CodeResult(
                text=render(
                    "failure",
                    ran=not reading.error,
                    hint=reading.hint,
                    outcome=execution.outcome,
                    output=output,
                    error=execution.error,
                    variables=table_of(await workspace.variables()),
                    executions_left=most - number,
                    executions=most,
                ),
                call_id=answer.reply.call_id,
            )
        )
    dialogue.emit(finished)
    return finished


async def _rebuilt(
    dialogue: Dialogue, workspace: Workspace, step_id: str, number: int, code: str
) -> str | None:
    """Run code that has succeeded before once more; its output, or None when it does not run any more."""
    execution = await workspace.restore(
        code,
        timeout=min(dialogue.budget.execution_seconds, max(1.0, dialogue.seconds_left)),
        place=Place(step_id=step_id, execution=number),
    )
    if execution.outcome == "ok":
        # A word or two, so that an empty output is not taken for a failure.
        return output_of(execution) or "(no output)"
    dialogue.forget()
    dialogue.emit(
        Noted(
            text=f"Step {step_id} could not be rebuilt from its recorded code, so it is done anew.",
            level="warning",
        )
    )
    return None


async def _run(
    dialogue: Dialogue, workspace: Workspace, limits: LimitsTold, place: Place, code: str, reading: Reading
) -> Execution:
    shown = 0
    step_id, number = place.step_id, place.execution

    def relay(stream: Literal["stdout", "stderr"], text: str) -> None:
        nonlocal shown
        if shown > LIVE_CHARACTERS:
            return
        shown += len(text)
        if shown > LIVE_CHARACTERS:
            text = text[: len(text) - (shown - LIVE_CHARACTERS)] + "\n… the rest is not shown live …\n"
        dialogue.emit(OutputWritten(step_id=step_id, execution=number, stream=stream, text=text))

    seconds = min(dialogue.budget.execution_seconds, dialogue.seconds_left)
    if seconds <= 0:
        raise BudgetExceededError(
            f"The limit of {dialogue.budget.seconds:g} seconds for one task is spent.", limit="seconds"
        )
    if reading.error:
        execution = Execution(outcome="error", error=reading.error, rolled_back=True)
        for item in reading.missing:
            dialogue.emit(Noted(text=_not_installed(item.module)))
    else:
        execution = await workspace.execute(code, timeout=seconds, place=place, on_output=relay)
    limits.look_at(execution)
    dialogue.emit(
        CodeExecuted(
            step_id=step_id,
            execution=number,
            outcome=execution.outcome,
            output=output_of(execution),
            error=execution.error,
            seconds=execution.seconds,
            rolled_back=execution.rolled_back and not reading.error,  # there was nothing to undo
        )
    )
    return execution


def _not_installed(module: str) -> str:
    return (
        f"The code wanted to import {module}, which is not installed in the sandbox. "
        f"If tasks should have it, run: pythonic sandbox packages add {package_of(module)}"
    )
