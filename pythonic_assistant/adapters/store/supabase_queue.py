"""The queue and the journal over Supabase's API: every change is one call of a database function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from supabase import AsyncClient

from pythonic_assistant.adapters.store.calls import call
from pythonic_assistant.adapters.store.queue_functions import Call, Json, QueueFunctions


class SupabaseQueue(QueueFunctions):
    """See `QueueFunctions`; a task that waits is told by Realtime, which may lose a hint.

    Args:
        client: made with the secret key; the functions are granted to the service role only.
    """

    def __init__(
        self,
        client: AsyncClient,
        *,
        worker: UUID,
        lease_seconds: float,
        queue: str = "default",
        labels: Sequence[str] = (),
    ) -> None:
        super().__init__(worker=worker, lease_seconds=lease_seconds, queue=queue, labels=labels)
        self._client = client

    @property
    def tells_along(self) -> bool:
        """Each function is a request of its own."""
        return False

    async def close(self) -> None:
        """The client is its maker's."""

    async def _ask(self, calls: Sequence[Call], deadline: float) -> list[Any]:
        return [await self._request(one, deadline) for one in calls]

    async def _request(self, wanted: Call, deadline: float) -> Any:
        arguments = {
            name: value.value if isinstance(value, Json) else value
            for name, value in wanted.arguments.items()
        }
        reply = await call(
            wanted.function.replace("_", " "),
            self._client.rpc(wanted.function, arguments).execute(),
            deadline=deadline,
        )
        return reply.data
