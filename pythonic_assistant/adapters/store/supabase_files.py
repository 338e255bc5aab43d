"""Files of people in Supabase Storage."""

from __future__ import annotations

import asyncio
from pathlib import Path

from supabase import AsyncClient

from pythonic_assistant.adapters.store.calls import call
from pythonic_assistant.adapters.store.naming import BUCKET
from pythonic_assistant.domain.errors import InvalidInputError

TRANSFER_SECONDS = 1800.0
"""For one file: 1 GiB at about 5 Mbit/s. A connection without a byte for long is given up much sooner."""


class SupabaseFiles:
    """`ports.FileStore` over Storage."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def download(self, storage_path: str, into: Path, *, most_bytes: int) -> int:
        """As `ports.FileStore.download`."""
        bucket = self._client.storage.from_(BUCKET)
        content = await call(
            f"read the file {storage_path.rsplit('/', 1)[-1]}",
            bucket.download(storage_path),
            deadline=TRANSFER_SECONDS,
        )
        if len(content) > most_bytes:
            raise InvalidInputError(
                f"The file {into.name} has {len(content):,} bytes; at most {most_bytes:,} are allowed."
            )
        await asyncio.to_thread(into.write_bytes, content)
        return len(content)

    async def upload(self, path: Path, storage_path: str, media_type: str) -> None:
        """As `ports.FileStore.upload`."""
        bucket = self._client.storage.from_(BUCKET)
        await call(
            f"store the file {path.name}",
            bucket.upload(storage_path, path, {"content-type": media_type, "upsert": "true"}),
            deadline=TRANSFER_SECONDS,
        )
