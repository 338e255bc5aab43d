"""A person's secrets: listed without their values, sealed before they are sent, removed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from postgrest.types import ReturnMethod

from live.rows import maybe_time, texts
from live.supabase_access import SupabaseAccess
from pythonic_assistant.adapters.secrets.vault import seal
from pythonic_assistant.adapters.store.calls import in_words
from pythonic_assistant.domain.errors import InvalidInputError

_COLUMNS = "id,name,hosts,raw,updated_at,last_used_at"  # nobody may read the ciphertext
_NOTHING = ReturnMethod.minimal  # to give the deleted row back would be to read its ciphertext
_KNOWN_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRow:
    """A secret as its owner may see it: never its value. Fields as in the table `secrets`."""

    id: str
    name: str
    hosts: tuple[str, ...]
    raw: bool
    updated_at: datetime | None
    last_used_at: datetime | None

    def usable(self, allowed: Sequence[str]) -> tuple[str, ...]:
        """Which of these hosts may get it."""
        return tuple(host for host in self.hosts if host in allowed)


class SecretDesk:
    """What a person can do with their secrets. Every method raises what `in_words` and the token do."""

    def __init__(self, access: SupabaseAccess, token: Callable[[], Awaitable[str]]) -> None:
        self._access = access
        self._token = token
        self._known: tuple[float, tuple[SecretRow, ...]] | None = None

    async def secrets(self) -> tuple[SecretRow, ...]:
        """All of them, by name."""
        client = await self._access.client(await self._token())
        with in_words("read the secrets"):
            found = await client.table("secrets").select(_COLUMNS).order("name").execute()
        secrets = tuple(_secret_row(row) for row in _rows(found.data))
        self._known = (time.monotonic(), secrets)
        return secrets

    async def known(self) -> tuple[SecretRow, ...]:
        """All of them, by name; as they were up to 30 s ago where they were not changed here."""
        if self._known is not None and time.monotonic() - self._known[0] < _KNOWN_SECONDS:
            return self._known[1]
        return await self.secrets()

    async def save(self, name: str, hosts: Sequence[str], value: str, *, raw: bool) -> None:
        """Add a secret, or replace the one of this name; only its ciphertext leaves this process.

        Raises:
            InvalidInputError: no worker has published a key, or the database refuses name or hosts.
        """
        if not value:
            raise InvalidInputError("The value is empty: enter it.")
        client = await self._access.client(await self._token())
        with in_words("read the workers' keys"):
            query = client.table("secret_keys").select("key_id,public_key")
            found = await query.order("published_at", desc=True).limit(1).execute()
        keys = _rows(found.data)
        if not keys:
            raise InvalidInputError(
                "No worker has ever started, so nobody could open the secret: start a worker, then enter it."
            )
        self._known = None
        with in_words("save the secret"):
            await client.rpc(
                "set_secret",
                {
                    "name": name,
                    "hosts": list(hosts),
                    "ciphertext": seal(str(keys[0]["public_key"]), value),
                    "key_id": str(keys[0]["key_id"]),
                    "raw": raw,
                },
            ).execute()

    async def remove(self, secret_id: str) -> None:
        """Delete a secret for good."""
        client = await self._access.client(await self._token())
        self._known = None
        with in_words("remove the secret"):
            await client.table("secrets").delete(returning=_NOTHING).eq("id", secret_id).execute()


def _secret_row(row: Mapping[str, Any]) -> SecretRow:
    return SecretRow(
        id=str(row["id"]),
        name=str(row["name"]),
        hosts=texts(row.get("hosts")),
        raw=bool(row.get("raw")),
        updated_at=maybe_time(row.get("updated_at")),
        last_used_at=maybe_time(row.get("last_used_at")),
    )


def _rows(data: Any) -> list[Mapping[str, Any]]:
    return cast("list[Mapping[str, Any]]", data) if isinstance(data, list) else []
