"""Sealed secrets of people, and the public keys that they are sealed to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from supabase import AsyncClient

from pythonic_assistant.adapters.store.calls import call
from pythonic_assistant.domain.errors import StoreUnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSecret:
    """A row of `secrets`; what is in it can be read with the worker's key only."""

    id: str
    name: str
    hosts: tuple[str, ...]
    raw: bool
    ciphertext: str
    key_id: str

    def __repr__(self) -> str:
        return f"SealedSecret(name={self.name!r}, hosts={self.hosts!r}, key_id={self.key_id!r})"


class _Row(BaseModel):
    id: str
    name: str
    hosts: list[str]
    raw: bool
    ciphertext: str
    key_id: str


_rows = TypeAdapter(list[_Row])


class SupabaseSecrets:
    """For workers: the client was made with the secret key. Every method raises `StoreUnavailableError`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def publish(self, key_id: str, public_key: str) -> None:
        """Make a public key the newest, the one that new secrets are sealed to."""
        row = {"key_id": key_id, "public_key": public_key, "published_at": "now"}
        await call("publish the key for secrets", self._client.table("secret_keys").upsert(row).execute())

    async def of_person(self, user_id: str) -> tuple[SealedSecret, ...]:
        """Return a person's secrets, by name."""
        reply = await call(
            "read the secrets",
            self._client.table("secrets")
            .select("id,name,hosts,raw,ciphertext,key_id")
            .eq("user_id", user_id)
            .order("name")
            .execute(),
        )
        try:
            rows = _rows.validate_python(reply.data)
        except ValidationError as error:
            raise StoreUnavailableError(
                "The secrets could not be read: the tables are of another version."
            ) from error
        return tuple(
            SealedSecret(
                id=row.id,
                name=row.name,
                hosts=tuple(row.hosts),
                raw=row.raw,
                ciphertext=row.ciphertext,
                key_id=row.key_id,
            )
            for row in rows
        )

    async def used(self, ids: Iterable[str]) -> None:
        """Note that requests carried these secrets."""
        arguments: dict[str, Any] = {"ids": list(ids)}
        await call("note the use of secrets", self._client.rpc("secret_used", arguments).execute())
