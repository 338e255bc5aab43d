"""Rows of the database as values of the domain."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.conversation import Recorded
from pythonic_assistant.domain.plan import Plan, Step
from pythonic_assistant.domain.task import (
    ClaimedTask,
    Exchange,
    FinishedStep,
    Resume,
    StoredFile,
    StoredVariable,
    TaskKind,
)
from pythonic_assistant.ports import Claim, Cycle, Fence


class _File(BaseModel):
    name: str
    storage_path: str
    media_type: str = "application/octet-stream"
    bytes: int = 0
    earlier: bool = False


class _Step(BaseModel):
    step_id: str
    title: str
    goal: str
    proof: str
    depends_on: list[str]
    state: str
    code: str | None
    output: str | None


class _Spent(BaseModel):
    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None


class _Task(BaseModel):
    id: int
    attempt: int
    user_id: str
    kind: TaskKind
    prompt: str
    thread_id: str | None
    model: str | None
    instructions: str
    inputs: list[_File]
    steps: list[_Step]
    history: list[Exchange]
    hosts: list[str]
    limits: dict[str, Any]
    tools: list[str]
    saved: list[StoredVariable]
    items: list[Recorded] = []
    spent: _Spent = _Spent()


class _Claim(BaseModel):
    tasks: list[dict[str, Any]]
    next_due_seconds: float | None


class _Ended(BaseModel):
    id: int
    attempt: int
    kept: bool


class _Cycle(_Claim):
    ended: list[_Ended]


_claims = TypeAdapter(_Claim)
_cycles = TypeAdapter(_Cycle)
_tasks = TypeAdapter(_Task)


def read_claim(data: Any) -> Claim:
    """Read what `claim_tasks` returned. A task that cannot be read does not hold up the others.

    Raises:
        pydantic.ValidationError: the database's functions are of another version than this code.
    """
    return _claim(_claims.validate_python(data))


def read_cycle(data: Any) -> Cycle:
    """Read what `cycle_tasks` returned; as `read_claim`."""
    cycle = _cycles.validate_python(data)
    kept = {Fence(row.id, row.attempt): row.kept for row in cycle.ended}
    return Cycle(kept=kept, claim=_claim(cycle))


def _claim(claim: _Claim) -> Claim:
    tasks: list[ClaimedTask] = []
    unreadable: list[tuple[Fence, str]] = []
    for row in claim.tasks:
        try:
            tasks.append(_task(_tasks.validate_python(row)))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            unreadable.append((Fence(int(row["id"]), int(row["attempt"])), f"{where}: {first['msg']}"))
    return Claim(tasks=tuple(tasks), unreadable=tuple(unreadable), next_due_seconds=claim.next_due_seconds)


def _task(row: _Task) -> ClaimedTask:
    return ClaimedTask(
        id=row.id,
        attempt=row.attempt,
        user_id=row.user_id,
        kind=row.kind,
        prompt=row.prompt,
        thread_id=row.thread_id,
        model=row.model,
        instructions=row.instructions,
        inputs=tuple(
            StoredFile(
                name=file.name,
                storage_path=file.storage_path,
                media_type=file.media_type,
                bytes=file.bytes,
                earlier=file.earlier,
            )
            for file in row.inputs
        ),
        resume=_resume(row.steps),
        history=tuple(row.history),
        hosts=tuple(row.hosts),
        limits=row.limits,
        tools=tuple(row.tools),
        saved=tuple(row.saved),
        recorded=tuple(row.items),
        spent=Usage(**row.spent.model_dump()),
    )


def _resume(rows: list[_Step]) -> Resume | None:
    if not rows:
        return None
    return Resume(
        plan=Plan(
            steps=tuple(
                Step(
                    id=row.step_id,
                    title=row.title,
                    goal=row.goal,
                    proof=row.proof,
                    depends_on=tuple(row.depends_on),
                )
                for row in rows
            )
        ),
        finished=tuple(
            FinishedStep(step_id=row.step_id, code=row.code, output=row.output or "")
            for row in rows
            if row.state == "succeeded" and row.code is not None
        ),
    )
