"""How workers and a person's own tasks are doing, as the database's views say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from live.rows import maybe_time, texts
from live.supabase_access import SupabaseAccess
from pythonic_assistant.adapters.store.calls import in_words

_MOST_WORKERS, _MOST_TASKS = 50, 30
STATES = ("running", "queued", "held", "scheduled", "waiting", "dead_letters")
"""What is counted, as the columns of `queue_health` are called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHealth:
    """A worker, as it last told of itself.

    Attributes:
        online: whether it gave a sign of life lately.
        running: tasks at work when it last told.
    """

    id: str
    host: str
    version: str
    labels: tuple[str, ...]
    slots: int
    running: int
    adapter: str
    sandbox: str
    model: str | None
    online: bool
    seen_at: datetime | None
    stopped_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskHealth:
    """A task that needs a word: why it does not run, or what is wrong with how it runs."""

    id: int
    thread_id: str | None
    prompt: str
    why: str
    bad: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """All of it; `counts` is of the person's own tasks, by the names of `STATES`."""

    workers: tuple[WorkerHealth, ...]
    counts: Mapping[str, int]
    waiting: tuple[TaskHealth, ...]
    running: tuple[TaskHealth, ...]


class HealthDesk:
    """Reads it with the person's own token."""

    def __init__(self, access: SupabaseAccess, token: Callable[[], Awaitable[str]]) -> None:
        self._access = access
        self._token = token

    async def look(self) -> Health:
        """Read the views; raises what `in_words` and the token do."""
        client = await self._access.client(await self._token())
        with in_words("look at workers and tasks"):
            workers = await client.table("worker_health").select("*").limit(_MOST_WORKERS).execute()
            queues = await client.table("queue_health").select(",".join(STATES)).execute()
            waits = await (
                client.table("task_waits")
                .select("id,thread_id,prompt,why,unroutable")
                .order("id")
                .limit(_MOST_TASKS)
                .execute()
            )
            running = await (
                client.table("running_tasks")
                .select("id,prompt,lost,stuck,slow,quiet_seconds")
                .order("id")
                .limit(_MOST_TASKS)
                .execute()
            )
        return Health(
            workers=tuple(_worker(row) for row in _rows(workers.data)),
            counts={name: sum(int(row.get(name) or 0) for row in _rows(queues.data)) for name in STATES},
            waiting=tuple(
                TaskHealth(
                    id=int(row["id"]),
                    thread_id=row.get("thread_id"),
                    prompt=str(row["prompt"]),
                    why=str(row.get("why") or ""),
                    bad=bool(row.get("unroutable")),
                )
                for row in _rows(waits.data)
            ),
            running=tuple(_running(row) for row in _rows(running.data)),
        )


def _running(row: Mapping[str, Any]) -> TaskHealth:
    minutes = int(float(row.get("quiet_seconds") or 0) // 60)
    if row.get("lost"):
        why = "Its worker gives no sign of life; another takes it over in a moment."
    elif row.get("stuck"):
        why = f"Nothing has happened for {minutes} minutes. Cancel it if you do not expect that."
    elif row.get("slow"):
        why = "It takes longer than three times what is usual."
    else:
        why = ""
    return TaskHealth(id=int(row["id"]), thread_id=None, prompt=str(row["prompt"]), why=why, bad=bool(why))


def _worker(row: Mapping[str, Any]) -> WorkerHealth:
    return WorkerHealth(
        id=str(row["id"]),
        host=str(row.get("host") or "?"),
        version=str(row.get("version") or "?"),
        labels=texts(row.get("labels")),
        slots=int(row.get("slots") or 0),
        running=int(row.get("running") or 0),
        adapter=str(row.get("adapter") or ""),
        sandbox=str(row.get("sandbox") or "?"),
        model=row.get("model"),
        online=bool(row.get("online")),
        seen_at=maybe_time(row.get("seen_at")),
        stopped_at=maybe_time(row.get("stopped_at")),
    )


def _rows(data: Any) -> list[Mapping[str, Any]]:
    return cast("list[Mapping[str, Any]]", data)
