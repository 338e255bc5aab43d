"""What tools may look up about a person's earlier work."""

from __future__ import annotations

from typing import Any

from supabase import AsyncClient

from pythonic_assistant.adapters.store.calls import call


class SupabaseRecords:
    """For workers: the client was made with the secret key. Every method raises `StoreUnavailableError`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def earlier_tasks(self, user_id: str, words: str, most: int) -> list[dict[str, Any]]:
        """Return ended tasks of a person that have any of the words, as `{"id", "asked", "answer", ...}`."""
        arguments = {"person": user_id, "words": words, "most": most}
        return await self._list("look for earlier tasks", "earlier_tasks", arguments)

    async def thread_files(self, thread_id: str) -> list[dict[str, Any]]:
        """Return what tasks of a thread left, as `{"name", "media_type", "bytes", "task_id"}`."""
        return await self._list("list the thread's files", "thread_files", {"thread": thread_id})

    async def _list(self, what: str, function: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        reply: Any = await call(what, self._client.rpc(function, arguments).execute())
        return reply.data
