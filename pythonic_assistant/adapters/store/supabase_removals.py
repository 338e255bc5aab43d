"""Files in Storage that no row needs any more."""

from __future__ import annotations

from typing import Any

from supabase import AsyncClient

from pythonic_assistant.adapters.store.calls import call
from pythonic_assistant.adapters.store.naming import BUCKET


class SupabaseRemovals:
    """For workers: the client was made with the secret key.

    Both methods raise `StoreUnavailableError`, and `InvalidInputError` where the database or Storage refuses.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def due(self, most: int) -> tuple[str, ...]:
        """Return paths of files that are to be removed now; a later call names those again that are left."""
        arguments: dict[str, Any] = {"most": most}
        reply: Any = await call(
            "name files without a row", self._client.rpc("due_removals", arguments).execute()
        )
        return tuple(str(path) for path in reply.data or ())

    async def remove(self, paths: tuple[str, ...]) -> None:
        """Remove files; those that are gone are no error."""
        await call("remove files without a row", self._client.storage.from_(BUCKET).remove(list(paths)))
