"""Rows of the database as the page reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from pythonic_assistant.domain.task import DEMO_MODEL, FINAL_STATES

# The two assistants that every database has (migration "built_in_assistants").
ASSISTANT_ID = "00000000-0000-4000-8000-000000000001"
DEMO_ID = "00000000-0000-4000-8000-000000000002"

TASK_COLUMNS = (
    "id,thread_id,assistant_id,kind,prompt,inputs,model,state,run_at,attempt,failures,max_failures,"
    "cancel_requested_at,answer,verdict,evidence,error,usage,model_used,sandbox_tier,created_at,started_at,"
    "finished_at,held_because,labels,task_steps(executions)"
)

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A task. Fields as in the table `tasks`.

    `cancelling` while the worker has yet to confirm; `fixes` is how often code of its steps was mended.
    """

    id: int
    thread_id: str | None
    kind: str
    prompt: str
    state: str
    attempt: int
    created_at: datetime
    assistant_id: str | None = None
    model: str | None = None
    model_used: str | None = None
    sandbox_tier: str | None = None
    inputs: tuple[Json, ...] = ()
    cancelling: bool = False
    answer: str | None = None
    verdict: str | None = None
    evidence: tuple[Json, ...] = ()
    error: str | None = None
    usage: Json = field(default_factory=dict[str, Any])
    failures: int = 0
    max_failures: int = 3
    run_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    fixes: int = 0
    held_because: str | None = None
    labels: tuple[str, ...] = ()

    @property
    def final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.state in FINAL_STATES

    @property
    def scripted(self) -> bool:
        """Whether the scripted demo answers, or was asked to."""
        asked = self.model or (DEMO_MODEL if self.assistant_id == DEMO_ID else "")
        return (self.model_used or asked) == DEMO_MODEL


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One event of an attempt; `(attempt, seq)` orders the events of a task."""

    attempt: int
    seq: int
    kind: str
    step_id: str | None
    at: datetime
    data: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRow:
    """A file that a task left."""

    id: int
    task_id: int
    name: str
    storage_path: str
    media_type: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadRow:
    """A conversation. `state` and `verdict` are those of its last task; None when it has none.

    `hosts` are those that code of its tasks may reach.
    """

    id: str
    title: str
    assistant_id: str | None
    updated_at: datetime
    state: str | None = None
    verdict: str | None = None
    hosts: tuple[str, ...] = ()

    @property
    def busy(self) -> bool:
        """Whether its last task has yet to end."""
        return self.state is not None and self.state not in FINAL_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class IceBreaker:
    """A prompt offered in an empty thread, with files below `examples/`."""

    title: str
    prompt: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantRow:
    """A saved configuration of the assistant. `hosts` and `limits` are those of each of its tasks."""

    id: str
    name: str
    description: str
    model: str | None
    ice_breakers: tuple[IceBreaker, ...]
    hosts: tuple[str, ...] = ()
    limits: Json = field(default_factory=dict[str, Any])

    @property
    def scripted(self) -> bool:
        """Whether no model answers here."""
        return self.model == DEMO_MODEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker that is online, as it says itself. `model` is None when none is configured.

    `sandbox` is the tier, and `sandbox_note` what there is to know about it, in sentences for people. `queue`
    is the way to the queue: direct, pooler or api; empty when it is not known.
    """

    id: str
    host: str
    version: str
    slots: int
    model: str | None
    sandbox: str
    sandbox_note: str = ""
    labels: tuple[str, ...] = ()
    queue: str = ""


def task_row(row: Json) -> TaskRow:
    """Read a row of `tasks`."""
    return TaskRow(
        id=int(row["id"]),
        thread_id=row.get("thread_id"),
        assistant_id=row.get("assistant_id"),
        kind=str(row.get("kind", "task")),
        prompt=str(row["prompt"]),
        model=row.get("model"),
        model_used=row.get("model_used"),
        sandbox_tier=row.get("sandbox_tier"),
        inputs=_objects(row.get("inputs")),
        state=str(row["state"]),
        cancelling=row["state"] == "running" and row.get("cancel_requested_at") is not None,
        attempt=int(row["attempt"]),
        failures=int(row.get("failures") or 0),
        max_failures=int(row.get("max_failures") or 3),
        answer=row.get("answer"),
        verdict=row.get("verdict"),
        evidence=_objects(row.get("evidence")),
        error=row.get("error"),
        usage=cast("Json", row.get("usage") or {}),
        created_at=_time(row["created_at"]),
        run_at=maybe_time(row.get("run_at")),
        started_at=maybe_time(row.get("started_at")),
        finished_at=maybe_time(row.get("finished_at")),
        held_because=row.get("held_because"),
        labels=texts(row.get("labels")),
        fixes=sum(max(int(step["executions"]) - 1, 0) for step in _objects(row.get("task_steps"))),
    )


def event_row(attempt: int, event: Json) -> EventRow:
    """Read an event as it is broadcast, or a row of `task_events`."""
    data: Any = event.get("data")
    return EventRow(
        attempt=attempt,
        seq=int(event["seq"]),
        kind=str(event["kind"]),
        step_id=event.get("step_id"),
        at=_time(event.get("at") or event.get("created_at")),
        data=cast("Json", data) if isinstance(data, dict) else {},
    )


def artifact_row(row: Json) -> ArtifactRow:
    """Read a row of `artifacts`."""
    return ArtifactRow(
        id=int(row["id"]),
        task_id=int(row["task_id"]),
        name=str(row["name"]),
        storage_path=str(row["storage_path"]),
        media_type=str(row["media_type"]),
        bytes=int(row["bytes"]),
        sha256=str(row["sha256"]),
    )


def thread_row(row: Json) -> ThreadRow:
    """Read a row of `threads` with its last task."""
    last: Json = next(iter(_objects(row.get("tasks"))), dict[str, Any]())
    return ThreadRow(
        id=str(row["id"]),
        title=str(row["title"]),
        assistant_id=row.get("assistant_id"),
        updated_at=_time(row["updated_at"]),
        state=last.get("state"),
        verdict=last.get("verdict"),
        hosts=texts(row.get("hosts")),
    )


def assistant_row(row: Json) -> AssistantRow:
    """Read a row of `assistants`; an ice-breaker without a title or a prompt is left out."""
    return AssistantRow(
        id=str(row["id"]),
        name=str(row["name"]),
        description=str(row.get("description") or ""),
        model=row.get("model"),
        ice_breakers=tuple(
            IceBreaker(
                title=str(item["title"]),
                prompt=str(item["prompt"]),
                files=tuple(str(name) for name in cast("Sequence[Any]", item.get("files") or ())),
            )
            for item in _objects(row.get("ice_breakers"))
            if item.get("title") and item.get("prompt")
        ),
        hosts=texts(row.get("hosts")),
        limits=cast("Json", row.get("limits") or {}),
    )


def worker_of(meta: Json) -> Worker | None:
    """Read what a worker tracks in Presence; None when it is something else."""
    name = meta.get("worker")
    if not isinstance(name, str):
        return None
    slots: Any = meta.get("slots")
    model: Any = meta.get("model")
    return Worker(
        id=name,
        host=str(meta.get("host") or "?"),
        version=str(meta.get("version") or "?"),
        slots=int(slots) if isinstance(slots, int | float) else 0,
        model=str(model) if model else None,
        sandbox=str(meta.get("sandbox") or "?"),
        sandbox_note=str(meta.get("sandbox_note") or ""),
        labels=texts(meta.get("labels")),
        queue=str(meta.get("queue") or ""),
    )


def texts(value: Any) -> tuple[str, ...]:
    """Read a list of texts; empty when it is none."""
    return tuple(str(item) for item in cast("list[Any]", value)) if isinstance(value, list) else ()


def _objects(value: Any) -> tuple[Json, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(cast("Json", item) for item in cast("list[Any]", value) if isinstance(item, dict))


def _time(value: Any) -> datetime:
    found = maybe_time(value)
    return found if found is not None else datetime.now(UTC)


def maybe_time(value: Any) -> datetime | None:
    """Read a moment; None when it is none."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
