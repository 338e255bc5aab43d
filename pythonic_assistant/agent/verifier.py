"""Answer and verdict: checks are executed, and only their outcome decides."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pythonic_assistant.agent.check_room import VARIABLES, CheckRoom
from pythonic_assistant.agent.checks import executable, file_checks, imports_of, problem_of, wanted_by
from pythonic_assistant.agent.dialogue import Dialogue
from pythonic_assistant.agent.handing_over import CODE
from pythonic_assistant.agent.limits_told import LimitsTold
from pythonic_assistant.agent.reading import cut, output_of
from pythonic_assistant.agent.schemas import VERIFICATION_SCHEMA, Check, Verification, read_verification
from pythonic_assistant.agent.static_check import read_code
from pythonic_assistant.agent.steps import work_on
from pythonic_assistant.agent.workspace import Workspace
from pythonic_assistant.domain.conversation import Said
from pythonic_assistant.domain.errors import InvalidInputError, ModelReplyError
from pythonic_assistant.domain.event import CheckExecuted, VerificationStarted
from pythonic_assistant.domain.plan import Step
from pythonic_assistant.domain.verdict import Evidence, Verdict, verdict_of
from pythonic_assistant.ports import JsonWanted
from pythonic_assistant.prompts.rendering import render


@dataclass(frozen=True, slots=True, kw_only=True)
class _Left:
    """What the work left for the checks: names of files and variables, and the libraries it used."""

    artifacts: tuple[str, ...]
    variables: frozenset[str]
    imports: Mapping[str, str]
    importable: frozenset[str]

    def problem_of(self, check: Check) -> str | None:
        """Say why a check could not fail, or could not run with what is there."""
        problem = problem_of(check)
        if problem is not None:
            return problem
        if missing := read_code(check.code, importable=self.importable).missing:
            return f'The check "{check.claim}" imports {missing[0].module}, which is not installed.'
        if absent := sorted(wanted_by(check) - self.variables - self.imports.keys()):
            return (
                f'The check "{check.claim}" uses {", ".join(absent)}, which is not there in the Python of '
                "the checks: import or compute it in the check."
            )
        return None


async def verify(
    dialogue: Dialogue, workspace: Workspace, *, inputs: Sequence[str], outbox: Path, limits: LimitsTold
) -> tuple[str, Verdict]:
    """Ask for the answer with its checks and execute them; mend and ask again while a check fails.

    Args:
        inputs: names of the person's files.
        outbox: folder of the host in which the work is laid out for the checks of a round.

    Returns the last answer and the verdict on it after at most `budget.verification_rounds` rounds.
    """
    rounds = dialogue.budget.verification_rounds
    for number in range(1, rounds + 1):
        dialogue.emit(VerificationStarted(round=number))
        with tempfile.TemporaryDirectory(prefix=".checks-", dir=outbox) as place:
            answer, verdict = await _round(dialogue, workspace, number, inputs, Path(place))
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
            limits=limits,
            prompt=render("refuted", failed=failed),
            purpose="fix",
        )
    raise AssertionError("a budget has at least one round")


async def _round(
    dialogue: Dialogue, workspace: Workspace, number: int, inputs: Sequence[str], folder: Path
) -> tuple[str, Verdict]:
    left = await _lay_out(dialogue, workspace, folder)
    verification = await _ask(dialogue, left)
    answer = verification.answer
    async with CheckRoom(workspace, folder) as room:
        claims = await _execute(dialogue, room, number, answer, verification.checks, left.imports)
        files = await _execute(
            dialogue, room, number, answer, file_checks(answer, artifacts=left.artifacts, inputs=inputs), {}
        )
    return answer, verdict_of(claims=claims, files=files)


async def _lay_out(dialogue: Dialogue, workspace: Workspace, folder: Path) -> _Left:
    """Copy files and variables of the work to where the checks find them, and tell the model."""
    artifacts, skipped = await workspace.collect(folder)
    await asyncio.to_thread((folder / "inputs").mkdir, exist_ok=True)
    saved, unsaved = await workspace.save(folder / VARIABLES)
    variables = [variable.name for variable in saved]
    importable = await workspace.importable()
    dialogue.add(
        Said(
            text=render(
                "verify",
                artifacts=[artifact.name for artifact in artifacts],
                skipped=skipped,
                variables=variables,
                unsaved=[item for item in unsaved if item.type not in CODE][:20],
            )
        )
    )
    return _Left(
        artifacts=tuple(artifact.name for artifact in artifacts),
        variables=frozenset(variables),
        imports=imports_of(workspace.finished, importable),
        importable=importable,
    )


async def _ask(dialogue: Dialogue, left: _Left, tries: int = 2) -> Verification:
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
            problems = [found for check in verification.checks if (found := left.problem_of(check))]
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
    dialogue: Dialogue,
    room: CheckRoom,
    number: int,
    answer: str,
    checks: Sequence[Check],
    imports: Mapping[str, str],
) -> tuple[Evidence, ...]:
    evidence: list[Evidence] = []
    for check in checks:
        execution = await room.execute(
            executable(check, answer, imports),
            timeout=min(dialogue.budget.execution_seconds, max(1.0, dialogue.seconds_left)),
        )
        passed = execution.outcome == "ok"
        item = Evidence(
            check=check.claim,
            outcome="passed" if passed else "failed",
            detail=cut(output_of(execution) if passed else execution.error, 2_000),
            code=check.code,
        )
        dialogue.emit(
            CheckExecuted(
                round=number, check=item.check, outcome=item.outcome, detail=item.detail, code=item.code
            )
        )
        evidence.append(item)
    return tuple(evidence)
