"""The queue and the journal over Supabase's API: every change is one call of a database function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from supabase import AsyncClient

from pythonic_assistant.adapters.store.calls import DEADLINE_SECONDS, call
from pythonic_assistant.adapters.store.rows import read_claim
from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.verdict import Evidence, Verdict
from pythonic_assistant.ports import Claim, Fence, LeaseStatus


class SupabaseQueue:
    """`ports.TaskQueue` and `ports.RunJournal` of one worker.

    Args:
        client: made with the secret key; the functions are granted to the service role only.
        worker: this worker's id, part of every fence.
        lease_seconds: how long a claim holds without a heartbeat.
    """

    def __init__(
        self, client: AsyncClient, *, worker: UUID, lease_seconds: float, queue: str = "default"
    ) -> None:
        self._client = client
        self._worker = str(worker)
        self._lease_seconds = lease_seconds
        self._queue = queue

    async def claim(self, most: int, held: Sequence[Fence]) -> Claim:
        """As `ports.TaskQueue.claim`."""
        return read_claim(
            await self._rpc(
                "claim_tasks",
                {
                    "queue": self._queue,
                    "most": most,
                    "lease_seconds": self._lease_seconds,
                    "held": [fence.task_id for fence in held],
                },
            )
        )

    async def recover(self) -> int:
        """As `ports.TaskQueue.recover`."""
        return int(await self._rpc("recover_tasks", {}))

    async def heartbeat(self, held: Sequence[Fence]) -> Mapping[Fence, LeaseStatus]:
        """As `ports.TaskQueue.heartbeat`."""
        rows = await self._rpc(
            "heartbeat_tasks",
            {
                "tasks": [{"id": fence.task_id, "attempt": fence.attempt} for fence in held],
                "lease_seconds": self._lease_seconds,
            },
            # A dead connection must not use up the lease that this call renews.
            deadline=self._lease_seconds / 4,
        )
        return {Fence(row["id"], row["attempt"]): row["status"] for row in rows}

    async def release(self, fence: Fence) -> bool:
        """As `ports.TaskQueue.release`."""
        return await self._fenced("release_task", fence)

    async def confirm_cancel(self, fence: Fence) -> bool:
        """As `ports.TaskQueue.confirm_cancel`."""
        return await self._fenced("confirm_cancel", fence)

    async def append(self, fence: Fence, events: Sequence[Mapping[str, Any]]) -> bool:
        """As `ports.RunJournal.append`."""
        return await self._fenced("append_events", fence, events=list(events))

    async def finish(self, fence: Fence, *, answer: str, verdict: Verdict, usage: Usage) -> bool:
        """As `ports.RunJournal.finish`."""
        return await self._fenced(
            "finish_task",
            fence,
            answer=answer,
            verdict=verdict.kind,
            evidence=[asdict(item) for item in verdict.evidence],
            usage=asdict(usage),
        )

    async def fail(
        self, fence: Fence, *, error: str, retryable: bool, evidence: Sequence[Evidence], usage: Usage
    ) -> bool:
        """As `ports.RunJournal.fail`."""
        return await self._fenced(
            "fail_task",
            fence,
            error=error,
            retryable=retryable,
            evidence=[asdict(item) for item in evidence],
            usage=asdict(usage),
        )

    async def _fenced(self, function: str, fence: Fence, **arguments: Any) -> bool:
        return bool(
            await self._rpc(function, {"task_id": fence.task_id, "attempt": fence.attempt, **arguments})
        )

    async def _rpc(
        self, function: str, arguments: Mapping[str, Any], *, deadline: float = DEADLINE_SECONDS
    ) -> Any:
        reply = await call(
            function.replace("_", " "),
            self._client.rpc(function, {"worker": self._worker, **arguments}).execute(),
            deadline=deadline,
        )
        return reply.data
