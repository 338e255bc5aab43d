"""Answer and verdict: checks are executed, and only their outcome decides."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pythonic_assistant.agent.checks import executable, file_checks, problem_of
from pythonic_assistant.agent.dialogue import Dialogue
from pythonic_assistant.agent.reading import cut, output_of
from pythonic_assistant.agent.schemas import VERIFICATION_SCHEMA, Check, Verification, read_verification
from pythonic_assistant.agent.steps import work_on
from pythonic_assistant.agent.workspace import Workspace
from pythonic_assistant.domain.conversation import Said
from pythonic_assistant.domain.errors import InvalidInputError, ModelReplyError
from pythonic_assistant.domain.event import CheckExecuted, VerificationStarted
from pythonic_assistant.domain.plan import Step
from pythonic_assistant.domain.verdict import Evidence, Verdict, verdict_of
from pythonic_assistant.ports import JsonWanted
from pythonic_assistant.prompts.rendering import render


async def verify(
    dialogue: Dialogue, workspace: Workspace, *, inputs: Sequence[str], outbox: Path
) -> tuple[str, Verdict]:
    """Ask for the answer with its checks and execute them; mend and ask again while a check fails.

    Args:
        inputs: names of the person's files.
        outbox: folder of the host in which files may be looked at for a moment.

    Returns the last answer and the verdict on it after at most `budget.verification_rounds` rounds.
    """
    rounds = dialogue.budget.verification_rounds
    for number in range(1, rounds + 1):
        dialogue.emit(VerificationStarted(round=number))
        before = await _digests(workspace, outbox)
        dialogue.add(Said(text=render("verify", artifacts=list(before))))
        verification = await _ask(dialogue)
        answer = verification.answer
        claims = await _execute(dialogue, workspace, number, answer, verification.checks)
        files = await _execute(
            dialogue, workspace, number, answer, file_checks(answer, artifacts=list(before), inputs=inputs)
        )
        touched = _touched(before, await _digests(workspace, outbox))
        if touched:
            # A check that makes its own evidence proves nothing, and what it made must not stay.
            files = (*files, _noted(dialogue, number, touched))
            await workspace.rebuild()
        verdict = verdict_of(claims=claims, files=files)
        if verdict.kind != "refuted" or number == rounds:
            return answer, verdict
        failed = [item for item in verdict.evidence if item.outcome == "failed"]
        await work_on(
            dialogue,
            workspace,
            Step(
                id=f"mend-{number}",
                title="Mend what the checks refuted",
                goal="; ".join(item.check for item in failed),
                proof="The checks pass.",
            ),
            prompt=render("refuted", failed=failed),
            purpose="fix",
        )
    raise AssertionError("a budget has at least one round")


async def _ask(dialogue: Dialogue, tries: int = 2) -> Verification:
    """Ask for an answer with checks that could fail; explain what is wrong once, then take what is sound."""
    verification: Verification | None = None
    problem = ""
    for _ in range(tries):
        reply = await dialogue.ask("verify", JsonWanted(name="verification", schema=VERIFICATION_SCHEMA))
        try:
            verification = read_verification(reply.data or {})
        except InvalidInputError as error:
            problem = str(error)
        else:
            problems = [found for check in verification.checks if (found := problem_of(check))]
            if not problems:
                return verification
            problem = " ".join(problems)
        dialogue.add(Said(text=render("verify_again", problem=problem)))
    if verification is None:
        raise ModelReplyError(f"The model gave no usable answer: {problem}")
    # What cannot fail is no evidence: without it the answer may stay unverified, which is the truth.
    return Verification(
        answer=verification.answer,
        checks=tuple(check for check in verification.checks if problem_of(check) is None),
    )


async def _execute(
    dialogue: Dialogue, workspace: Workspace, number: int, answer: str, checks: Sequence[Check]
) -> tuple[Evidence, ...]:
    evidence: list[Evidence] = []
    for check in checks:
        execution = await workspace.execute(
            executable(check, answer),
            timeout=min(dialogue.budget.execution_seconds, max(1.0, dialogue.seconds_left)),
        )
        passed = execution.outcome == "ok"
        item = Evidence(
            check=check.claim,
            outcome="passed" if passed else "failed",
            detail=cut(output_of(execution) if passed else execution.error, 2_000),
            code=check.code,
        )
        _tell(dialogue, number, item)
        evidence.append(item)
    return tuple(evidence)


def _tell(dialogue: Dialogue, number: int, item: Evidence) -> None:
    dialogue.emit(
        CheckExecuted(
            round=number, check=item.check, outcome=item.outcome, detail=item.detail, code=item.code
        )
    )


async def _digests(workspace: Workspace, outbox: Path) -> dict[str, str]:
    """The files of the session by name, with their digests."""
    with tempfile.TemporaryDirectory(prefix=".look-", dir=outbox) as folder:
        artifacts, _ = await workspace.collect(Path(folder))
        return {artifact.name: artifact.sha256 for artifact in artifacts}


def _touched(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _noted(dialogue: Dialogue, number: int, touched: Sequence[str]) -> Evidence:
    item = Evidence(
        check="No check changes a file",
        outcome="failed",
        detail=f"Written or removed by a check: {', '.join(touched)}. Checks only look.",
    )
    _tell(dialogue, number, item)
    return item
