"""Supabase clients that act as one person."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from supabase import AsyncClient, AsyncClientOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class SupabaseAccess:
    """Where Supabase is.

    Attributes:
        url: address without a trailing slash.
        publishable_key: the key that a browser may know.
        http: shared by all clients, closed by whoever made it.
    """

    url: str
    publishable_key: str
    http: httpx.AsyncClient

    async def client(self, token: str | None = None) -> AsyncClient:
        """Make a client that acts with this access token; without one, as nobody.

        Clients are cheap, hold no connection of their own and are made anew for every token, so that no two
        people ever share one.
        """
        options = AsyncClientOptions(
            auto_refresh_token=False,
            persist_session=False,
            httpx_client=self.http,
            # Whoever asks decides whether to ask again; a page that waits for silent retries looks frozen.
            postgrest_client_retry=False,
        )
        if token is not None:
            options.headers["Authorization"] = f"Bearer {token}"
        return await AsyncClient.create(self.url, self.publishable_key, options)
