"""What rules have to send, as a worker takes it from the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, ValidationError
from supabase import AsyncClient

from pythonic_assistant.adapters.store.calls import call
from pythonic_assistant.domain.errors import StoreUnavailableError


class DueDelivery(BaseModel):
    """A delivery that this worker holds. `repr` shows no content.

    Attributes:
        fence: names this claim in all that is said of it.
        payload: `{"type", "timestamp", "data"}`.
        secret: name of the secret that signs a webhook.
        to: where an e-mail goes; None where it may not go.
    """

    id: str
    fence: int
    action: Literal["webhook", "email", "task"]
    event: str
    payload: dict[str, Any] = Field(repr=False)
    user_id: str
    rule: str
    target: dict[str, Any] = Field(repr=False)
    secret: str | None = None
    to: str | None = Field(default=None, repr=False)


class _Claimed(BaseModel):
    deliveries: list[DueDelivery]
    next_due_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What was claimed, and in how many seconds the next is due; None when nothing waits."""

    deliveries: tuple[DueDelivery, ...]
    next_due_seconds: float | None


class SupabaseDeliveries:
    """For workers: the client was made with the secret key.

    Every method raises `StoreUnavailableError`; `InvalidInputError` when the database refuses the values.
    """

    def __init__(
        self,
        client: AsyncClient,
        *,
        worker: UUID,
        can_mail: bool,
        allowed: Sequence[str],
        lease_seconds: float,
    ) -> None:
        """Act for a worker; `can_mail` and `allowed` tell people whether and to whom e-mail can be sent."""
        self._client = client
        self._worker = str(worker)
        self._means: dict[str, Any] = {"can_mail": can_mail, "allowed": list(allowed)}
        self._lease_seconds = lease_seconds

    async def claim(self, most: int) -> Due:
        """Claim deliveries that are due."""
        reply = await self._rpc(
            "claim_deliveries", {**self._means, "most": most, "lease_seconds": self._lease_seconds}
        )
        try:
            found = _Claimed.model_validate(reply)
        except ValidationError as error:
            raise StoreUnavailableError(
                "The deliveries could not be read: the tables are of another version."
            ) from error
        return Due(deliveries=tuple(found.deliveries), next_due_seconds=found.next_due_seconds)

    async def finish(self, delivery: DueDelivery, status: int | None = None) -> bool:
        """Say that it has arrived; False when another worker has it by now."""
        return bool(await self._fenced("finish_delivery", delivery, status=status))

    async def fail(
        self, delivery: DueDelivery, error: str, *, retryable: bool, status: int | None = None
    ) -> bool:
        """Say that a try failed; False when another worker has it by now."""
        return bool(
            await self._fenced("fail_delivery", delivery, error=error, retryable=retryable, status=status)
        )

    async def start_task(self, delivery: DueDelivery, prompt: str) -> int | None:
        """Start the task of a delivery, once; None when another worker has it by now."""
        found = await self._fenced("start_caused_task", delivery, prompt=prompt)
        return None if found is None else int(found)

    async def _fenced(self, function: str, delivery: DueDelivery, **arguments: Any) -> Any:
        return await self._rpc(function, {"delivery": delivery.id, "fence": delivery.fence, **arguments})

    async def _rpc(self, function: str, arguments: dict[str, Any]) -> Any:
        reply: Any = await call(
            function.replace("_", " "),
            self._client.rpc(function, {"worker": self._worker, **arguments}).execute(),
        )
        return reply.data
