"""One run from its request to its verdict: plan, steps, verification. Policy only; the ports do the work."""

from __future__ import annotations

import platform
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import assert_never

from pythonic_assistant.agent.called import ToldToolbox
from pythonic_assistant.agent.dialogue import Dialogue, Emit
from pythonic_assistant.agent.handing_over import hand_over_files, hand_over_variables
from pythonic_assistant.agent.limits_told import LimitsTold, in_words, limits_of
from pythonic_assistant.agent.planner import make_plan, restore
from pythonic_assistant.agent.redacting import clean, redactor_of
from pythonic_assistant.agent.steps import work_on
from pythonic_assistant.agent.stubs import stub_of
from pythonic_assistant.agent.verifier import verify
from pythonic_assistant.agent.workspace import Workspace
from pythonic_assistant.domain.conversation import Said
from pythonic_assistant.domain.effect import Place
from pythonic_assistant.domain.errors import AssistantError, InvalidInputError, RetryableError
from pythonic_assistant.domain.event import Event, RunFailed, RunStarted, RunSucceeded
from pythonic_assistant.domain.secret import is_placeholder
from pythonic_assistant.domain.task import RunRequest
from pythonic_assistant.domain.verdict import Evidence, Verdict
from pythonic_assistant.ports import Access, Egress, Model, Sandbox, TextWanted, Toolbox
from pythonic_assistant.prompts.rendering import render


async def run(
    request: RunRequest,
    *,
    model: Model,
    sandbox: Sandbox,
    outbox: Path,
    emit: Emit,
    egress: Egress | None = None,
    toolbox: Toolbox | None = None,
    entering: Callable[[Place], Awaitable[None]] | None = None,
) -> None:
    """Work on a request and emit what happens; the last event is `RunSucceeded` or `RunFailed`.

    Args:
        outbox: a folder of the host into which the artifacts are copied.
        egress: the way out of the sandbox; None while code may reach nothing.
        toolbox: what code may call; None for nothing.
        entering: told of each execution before it begins: what is done outside is counted by them.

    Errors of the project's own tree become `RunFailed`; anything else is a fault of ours and is raised.
    """
    redactor = redactor_of(request)

    def emit_clean(event: Event) -> None:
        emit(clean(redactor, event))

    hosts = tuple(egress.hosts) if egress is not None else ()
    dialogue = Dialogue(
        model=model,
        instructions=clean(redactor, _instructions(request, hosts, toolbox)),
        budget=request.budget,
        emit=emit_clean,
        started=time.monotonic(),
        cache_key=request.cache_key,
        price=request.price,
        redactor=redactor,
        usage=request.spent,
        recorded=deque(request.recorded),
    )
    dialogue.emit(
        RunStarted(
            model=model.name,
            scripted=model.scripted,
            sandbox=sandbox.tier,
            limits=limits_of(request.limits, request.budget),
            hosts=hosts,
        )
    )
    try:
        if not request.prompt.strip():
            raise InvalidInputError("The prompt is empty: write what should be done.")
        match request.kind:
            case "probe":
                dialogue.emit(await _probe(dialogue))
            case "task":
                told = None if toolbox is None else ToldToolbox(toolbox, dialogue.emit, redactor)
                access = Access(
                    environment=request.environment, egress=egress, toolbox=told, entering=entering
                )
                dialogue.emit(await _solve(dialogue, sandbox, request, access, outbox))
            case _:
                assert_never(request.kind)
    except AssistantError as error:
        dialogue.emit(
            RunFailed(error=str(error), retryable=isinstance(error, RetryableError), usage=dialogue.usage)
        )


async def _solve(
    dialogue: Dialogue, sandbox: Sandbox, request: RunRequest, access: Access, outbox: Path
) -> RunSucceeded | RunFailed:
    limits = LimitsTold(dialogue.emit, request.limits)
    async with Workspace(
        sandbox,
        inputs=request.files,
        limits=request.limits,
        seed=request.seed,
        access=access,
        redactor=dialogue.redactor,
        rebuild_seconds=request.budget.execution_seconds,
    ) as workspace:
        before = frozenset[str]()
        if request.resume is None or request.recorded:
            plan, done = await make_plan(dialogue, request), frozenset[str]()
            if request.resume is not None and request.resume.plan == plan:
                before = frozenset(step.step_id for step in request.resume.finished)
        else:
            plan = request.resume.plan
            done = await restore(dialogue, workspace, request, request.resume)
        for step in plan.steps:
            if step.id in done:
                continue
            finished = await work_on(
                dialogue,
                workspace,
                step,
                limits=limits,
                finished_before=step.id in before and not dialogue.live,
            )
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
            dialogue,
            workspace,
            inputs=[file.name for file in request.files],
            outbox=outbox,
            limits=limits,
        )
        await hand_over_files(dialogue, workspace, outbox)
        if verdict.kind != "refuted":
            await hand_over_variables(dialogue, workspace, outbox)
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


def _instructions(request: RunRequest, hosts: Sequence[str], toolbox: Toolbox | None) -> str:
    names = sorted(request.environment)
    raw = [name for name in names if name in request.raw]
    placeholders = [
        name for name in names if name not in raw and is_placeholder(name, request.environment[name])
    ]
    return render(
        "instructions",
        python=platform.python_version(),
        hosts=list(hosts),
        placeholders=placeholders,
        raw=raw,
        others=[name for name in names if name not in raw and name not in placeholders],
        limits=in_words(request.limits, request.budget),
        tools=[stub_of(spec) for spec in toolbox.specs] if toolbox is not None else [],
        acting=bool(hosts) or any(spec.risk != "read" for spec in (toolbox.specs if toolbox else ())),
        assistant_instructions=request.instructions.strip(),
    )


def _last_line(error: str) -> str:
    lines = [line for line in error.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "the model gave no code."
