"""One run from its request to its verdict: plan, steps, verification. Policy only; the ports do the work."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import assert_never

from pythonic_assistant.agent.dialogue import Dialogue, Emit
from pythonic_assistant.agent.planner import make_plan, restore
from pythonic_assistant.agent.steps import work_on
from pythonic_assistant.agent.verifier import verify
from pythonic_assistant.agent.workspace import Workspace
from pythonic_assistant.domain.conversation import Said
from pythonic_assistant.domain.errors import AssistantError, InvalidInputError, RetryableError
from pythonic_assistant.domain.event import ArtifactSaved, Noted, RunFailed, RunStarted, RunSucceeded
from pythonic_assistant.domain.task import RunRequest
from pythonic_assistant.domain.verdict import Evidence, Verdict
from pythonic_assistant.ports import Model, Sandbox, TextWanted
from pythonic_assistant.prompts.rendering import render


async def run(request: RunRequest, *, model: Model, sandbox: Sandbox, outbox: Path, emit: Emit) -> None:
    """Work on a request and emit what happens; the last event is `RunSucceeded` or `RunFailed`.

    Args:
        outbox: a folder of the host into which the artifacts are copied.

    Errors of the project's own tree become `RunFailed`; anything else is a fault of ours and is raised.
    """
    dialogue = Dialogue(
        model=model,
        instructions=_instructions(request),
        budget=request.budget,
        emit=emit,
        started=time.monotonic(),
        cache_key=request.cache_key,
    )
    emit(RunStarted(model=model.name, scripted=model.scripted, sandbox=sandbox.tier))
    try:
        if not request.prompt.strip():
            raise InvalidInputError("The prompt is empty: write what should be done.")
        match request.kind:
            case "probe":
                emit(await _probe(dialogue))
            case "task":
                emit(await _solve(dialogue, sandbox, request, outbox))
            case _:
                assert_never(request.kind)
    except AssistantError as error:
        emit(RunFailed(error=str(error), retryable=isinstance(error, RetryableError), usage=dialogue.usage))


async def _solve(
    dialogue: Dialogue, sandbox: Sandbox, request: RunRequest, outbox: Path
) -> RunSucceeded | RunFailed:
    async with Workspace(
        sandbox,
        inputs=request.files,
        seed=request.seed,
        rebuild_seconds=request.budget.execution_seconds,
    ) as workspace:
        if request.resume is None:
            plan, done = await make_plan(dialogue, request), frozenset[str]()
        else:
            plan = request.resume.plan
            done = await restore(dialogue, workspace, request, request.resume)
        for step in plan.steps:
            if step.id in done:
                continue
            finished = await work_on(dialogue, workspace, step)
            if finished.outcome == "failed":
                return RunFailed(
                    error=(
                        f"Step “{step.title}” did not succeed in {finished.executions} executions. "
                        f"The last error was: {_last_line(finished.error)}"
                    ),
                    retryable=False,
                    usage=dialogue.usage,
                )
        answer, verdict = await verify(
            dialogue, workspace, inputs=[file.name for file in request.files], outbox=outbox
        )
        await _hand_over(dialogue, workspace, outbox)
    if verdict.kind == "refuted":
        failed = [item for item in verdict.evidence if item.outcome == "failed"]
        return RunFailed(
            error=(
                f"The answer was not proven: {len(failed)} of {len(verdict.evidence)} checks failed, "
                f"the first of them “{failed[0].check}”."
            ),
            retryable=False,
            usage=dialogue.usage,
            evidence=verdict.evidence,
            refuted_answer=answer,
        )
    return RunSucceeded(answer=answer, verdict=verdict, usage=dialogue.usage)


async def _hand_over(dialogue: Dialogue, workspace: Workspace, outbox: Path) -> None:
    artifacts, skipped = await workspace.collect(outbox)
    for artifact in artifacts:
        dialogue.emit(
            ArtifactSaved(
                name=artifact.name,
                path=str(artifact.path),
                media_type=artifact.media_type,
                bytes=artifact.bytes,
                sha256=artifact.sha256,
            )
        )
    for sentence in skipped:
        dialogue.emit(Noted(text=sentence, level="warning"))


async def _probe(dialogue: Dialogue) -> RunSucceeded:
    """Ask the model for one word: shows key, address, model name and reply form at once."""
    dialogue.add(Said(text=render("probe")))
    began = time.monotonic()
    answer = await dialogue.ask("probe", TextWanted())
    seconds = time.monotonic() - began
    words = answer.reply.text.strip()
    evidence = Evidence(
        check=f"The model {dialogue.model.name} replies",
        outcome="passed",
        detail=f"“{words[:200]}” after {seconds:.2f} s",
    )
    return RunSucceeded(
        answer=f"The connection works: {dialogue.model.name} replied after {seconds:.2f} s.",
        verdict=Verdict(kind="proven", evidence=(evidence,)),
        usage=dialogue.usage,
    )


def _instructions(request: RunRequest) -> str:
    return render(
        "instructions",
        python=platform.python_version(),
        execution_seconds=f"{request.budget.execution_seconds:g}",
        assistant_instructions=request.instructions.strip(),
    )


def _last_line(error: str) -> str:
    lines = [line for line in error.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "the model gave no code."
