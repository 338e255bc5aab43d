"""Reading and writing rows and files as one person, with that person's token."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from supabase import AsyncClient

from live.rows import (
    TASK_COLUMNS,
    ArtifactRow,
    AssistantRow,
    EventRow,
    TaskRow,
    ThreadRow,
    artifact_row,
    assistant_row,
    event_row,
    task_row,
    texts,
    thread_row,
)
from live.supabase_access import SupabaseAccess
from pythonic_assistant.adapters.store.calls import in_words
from pythonic_assistant.adapters.store.naming import BUCKET, storage_name, unique_names
from pythonic_assistant.domain.errors import InvalidInputError

# PostgREST on hosted Supabase gives at most 1,000 rows at a time, and Storage deletes as many files at most.
_PAGE = 1000
Position = tuple[int, int]
File = tuple[str, bytes, str]
"""Its name as the person gave it, its content, its media type."""

LARGEST_UPLOAD_MEGABYTES = 50
"""Of 1,048,576 bytes: what Storage takes on Supabase's free plan, and the embedded one takes the same."""


class Desk:
    """What a person can do with the database. Every method raises what `in_words` and the token do."""

    def __init__(self, access: SupabaseAccess, user_id: str, token: Callable[[], Awaitable[str]]) -> None:
        self._access = access
        self._user_id = user_id
        self._token = token

    async def threads(self, limit: int = 50) -> tuple[ThreadRow, ...]:
        """The newest conversations first, each with the state of its last task."""
        client = await self._client()
        with in_words("read the threads"):
            query = client.table("threads").select("*,tasks(state,verdict)")
            query = query.order("id", desc=True, foreign_table="tasks").limit(1, foreign_table="tasks")
            found = await query.order("updated_at", desc=True).limit(limit).execute()
        return tuple(thread_row(row) for row in _rows(found.data))

    async def assistants(self) -> tuple[AssistantRow, ...]:
        """The built-in assistants and the person's own."""
        client = await self._client()
        with in_words("read the assistants"):
            found = await client.table("assistants").select("*").order("id").execute()
        return tuple(assistant_row(row) for row in _rows(found.data))

    async def tasks_of_thread(self, thread_id: str, limit: int) -> tuple[TaskRow, ...]:
        """The newest tasks of a conversation, oldest of them first."""
        client = await self._client()
        with in_words("read the tasks of the thread"):
            query = client.table("tasks").select(TASK_COLUMNS).eq("thread_id", thread_id)
            found = await query.order("id", desc=True).limit(limit).execute()
        return tuple(task_row(row) for row in reversed(_rows(found.data)))

    async def tasks(self, ids: Sequence[int]) -> tuple[TaskRow, ...]:
        """These tasks; those that are gone are left out."""
        client = await self._client()
        with in_words("read the tasks"):
            found = await client.table("tasks").select(TASK_COLUMNS).in_("id", list(ids)).execute()
        return tuple(task_row(row) for row in _rows(found.data))

    async def artifacts(self, task_ids: Sequence[int]) -> tuple[ArtifactRow, ...]:
        """What these tasks left, in the order in which it was stored."""
        client = await self._client()
        with in_words("read the artifacts"):
            found = (
                await client.table("artifacts")
                .select("*")
                .in_("task_id", list(task_ids))
                .order("id")
                .execute()
            )
        return tuple(artifact_row(row) for row in _rows(found.data))

    async def artifact(self, artifact_id: int) -> ArtifactRow | None:
        """One artifact, if it is the person's."""
        client = await self._client()
        with in_words("read the artifact"):
            found = await client.table("artifacts").select("*").eq("id", artifact_id).execute()
        rows = _rows(found.data)
        return artifact_row(rows[0]) if rows else None

    async def events_after(self, task_id: int, position: Position) -> tuple[EventRow, ...]:
        """The events of a task after `(attempt, seq)`, in order."""
        client = await self._client()
        events: list[EventRow] = []
        while True:
            attempt, seq = position
            with in_words("read the events"):
                query = client.table("task_events").select("attempt,seq,kind,step_id,data,created_at")
                query = query.eq("task_id", task_id)
                query = query.or_(f"attempt.gt.{attempt},and(attempt.eq.{attempt},seq.gt.{seq})")
                found = await query.order("attempt").order("seq").limit(_PAGE).execute()
            rows = _rows(found.data)
            events.extend(event_row(int(row["attempt"]), row) for row in rows)
            if len(rows) < _PAGE:
                return tuple(events)
            position = (events[-1].attempt, events[-1].seq)

    async def enqueue(
        self,
        prompt: str,
        *,
        dedupe_key: str,
        thread_id: str | None = None,
        assistant_id: str | None = None,
        inputs: Sequence[Mapping[str, Any]] = (),
        kind: str = "task",
        limits: Mapping[str, float] | None = None,
        run_at: datetime | None = None,
    ) -> TaskRow:
        """Ask a task, not to be begun before `run_at`; asked twice with the same key it is one task.

        `limits` by the names of `pythonic_assistant.domain.limits.LEAST`; what is not named is as usual.
        """
        client = await self._client()
        with in_words("ask the task"):
            found = await client.rpc(
                "enqueue_task",
                {
                    "prompt": prompt,
                    "thread_id": thread_id,
                    "assistant_id": assistant_id,
                    "inputs": list(inputs),
                    "kind": kind,
                    "dedupe_key": dedupe_key,
                    "limits": dict(limits or {}),
                    "run_at": run_at.isoformat() if run_at else None,
                },
            ).execute()
        data: Any = found.data
        row: Any = cast("list[Any]", data)[0] if isinstance(data, list) else data
        return task_row(cast("Mapping[str, Any]", row))

    async def cancel(self, task_id: int) -> None:
        """Cancel a task, or ask its worker to."""
        client = await self._client()
        with in_words("cancel the task"):
            await client.rpc("cancel_task", {"task_id": task_id}).execute()

    async def retry(self, task_id: int, *, from_start: bool) -> None:
        """Queue an ended task again."""
        client = await self._client()
        with in_words("retry the task"):
            await client.rpc("retry_task", {"task_id": task_id, "from_start": from_start}).execute()

    async def begin_thread(self, assistant_id: str, hosts: Sequence[str]) -> str:
        """Make an empty conversation whose code may reach these hosts; returns its id."""
        client = await self._client()
        with in_words("begin the thread"):
            row = {"assistant_id": assistant_id, "hosts": list(hosts)}
            made = await client.table("threads").insert(row).execute()
        return str(_rows(made.data)[0]["id"])

    async def allowed_hosts(self, thread_id: str) -> tuple[str, ...]:
        """The hosts that code of a conversation may reach; none when it is not the person's."""
        client = await self._client()
        with in_words("read the thread"):
            found = await client.table("threads").select("hosts").eq("id", thread_id).execute()
        rows = _rows(found.data)
        return texts(rows[0].get("hosts")) if rows else ()

    async def allow(self, thread_id: str, hosts: Sequence[str]) -> None:
        """Let code of a conversation reach these hosts and no others, from its next task on.

        Raises:
            InvalidInputError: the conversation is gone, or not the person's.
        """
        client = await self._client()
        with in_words("change what the thread may reach"):
            query = client.table("threads").update({"hosts": list(hosts)}).eq("id", thread_id)
            changed = await query.execute()
        if not _rows(changed.data):
            raise InvalidInputError("This thread is gone: begin a new one.")

    async def rename_thread(self, thread_id: str, title: str) -> None:
        """Give a conversation another title of 1 to 200 characters."""
        client = await self._client()
        with in_words("rename the thread"):
            await client.table("threads").update({"title": title.strip()[:200]}).eq("id", thread_id).execute()

    async def delete_thread(self, thread_id: str) -> None:
        """Delete a conversation with its tasks and their files.

        The files go first, because only the rows tell where they are. Those that are gone are no error.
        """
        client = await self._client()
        paths = await self._files_of_thread(client, thread_id)
        for start in range(0, len(paths), _PAGE):
            with in_words("delete the files of the thread"):
                await client.storage.from_(BUCKET).remove(paths[start : start + _PAGE])
        with in_words("delete the thread"):
            await client.table("threads").delete().eq("id", thread_id).execute()

    async def upload_all(self, files: Sequence[File]) -> list[dict[str, Any]]:
        """Store files, each under a name of its own; returns the `inputs` of a task.

        None is stored unless all may be.
        """
        names = unique_names([name for name, _, _ in files])
        for name, (_, content, _) in zip(names, files, strict=True):
            _must_be_storable(name, content)
        return [
            await self.upload(name, content, media_type)
            for name, (_, content, media_type) in zip(names, files, strict=True)
        ]

    async def upload(self, name: str, content: bytes, media_type: str) -> dict[str, Any]:
        """Store a file under a name of `unique_names`; returns the entry for `inputs` of a task."""
        _must_be_storable(name, content)
        path = f"{self._user_id}/uploads/{uuid.uuid4()}/{storage_name(name)}"
        client = await self._client()
        with in_words("store the file"):
            await client.storage.from_(BUCKET).upload(
                path, content, {"content-type": media_type or "application/octet-stream"}
            )
        return {"name": name, "storage_path": path, "media_type": media_type, "bytes": len(content)}

    async def download(self, storage_path: str) -> bytes:
        """The content of a file."""
        client = await self._client()
        with in_words("read the file"):
            return await client.storage.from_(BUCKET).download(storage_path)

    async def _files_of_thread(self, client: AsyncClient, thread_id: str) -> list[str]:
        """The paths of all files that tasks of a conversation were given, left or kept, each once."""
        with in_words("read the variables of the thread"):
            kept = await client.table("variables").select("storage_path").eq("thread_id", thread_id).execute()
        paths = {str(row["storage_path"]): None for row in _rows(kept.data)}
        after = 0
        while True:
            with in_words("read the files of the thread"):
                query = client.table("tasks").select("id,inputs,artifacts(storage_path)")
                query = query.eq("thread_id", thread_id).gt("id", after)
                found = await query.order("id").limit(_PAGE).execute()
            rows = _rows(found.data)
            for row in rows:
                for file in (*_rows(row["inputs"]), *_rows(row["artifacts"])):
                    paths[str(file["storage_path"])] = None
            if len(rows) < _PAGE:
                return list(paths)
            after = int(rows[-1]["id"])

    async def _client(self) -> AsyncClient:
        return await self._access.client(await self._token())


def _must_be_storable(name: str, content: bytes) -> None:
    if not content:
        raise InvalidInputError(f"The file {name} is empty: choose one with content.")
    if len(content) > LARGEST_UPLOAD_MEGABYTES * 1024 * 1024:
        raise InvalidInputError(
            f"The file {name} is too large: up to {LARGEST_UPLOAD_MEGABYTES} MB can be attached."
        )


def _rows(data: Any) -> list[Mapping[str, Any]]:
    return cast("list[Mapping[str, Any]]", data) if isinstance(data, list) else []
