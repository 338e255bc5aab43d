"""Supabase clients that act as one person, and errors of the network put into words."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from postgrest.exceptions import APIError
from storage3.exceptions import StorageApiError
from supabase import AsyncClient, AsyncClientOptions
from supabase_auth.errors import AuthError, AuthRetryableError

from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError

# PostgREST's code for a database that it cannot reach, and for a schema that it has not read yet.
_NOT_READY = frozenset({"PGRST000", "PGRST001", "PGRST002", "PGRST003"})
UNREACHABLE = "The database does not answer. It is tried again; nothing that was saved is lost."


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


@contextmanager
def in_words() -> Generator[None, None, None]:
    """Translate errors of Supabase's clients.

    Raises:
        StoreUnavailableError: no answer, or an answer that the server cannot stand for (5xx).
        InvalidInputError: the database refused; its message says what to change.
    """
    try:
        yield
    except (httpx.TransportError, AuthRetryableError) as error:
        raise StoreUnavailableError(UNREACHABLE) from error
    except APIError as error:
        code = str(error.code or "")
        if not code or code in _NOT_READY or (code.isdigit() and len(code) == 3 and code.startswith("5")):
            raise StoreUnavailableError(UNREACHABLE) from error
        raise InvalidInputError(error.message or "The database refused the request.") from error
    except StorageApiError as error:
        if str(error.status).startswith("5"):
            raise StoreUnavailableError(UNREACHABLE) from error
        raise InvalidInputError(f"The file was refused: {error.message}") from error
    except AuthError as error:
        raise InvalidInputError(error.message) from error
