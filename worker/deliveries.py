"""Delivers what people's rules ask for: webhooks and e-mails at least once, new tasks exactly once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Protocol

from pythonic_assistant.adapters.mail import Letter, Mailer
from pythonic_assistant.adapters.secrets.keyring import WorkerKey
from pythonic_assistant.adapters.store.supabase_deliveries import Due, DueDelivery
from pythonic_assistant.domain.errors import (
    AssistantError,
    InvalidInputError,
    PermanentError,
    RetryableError,
    StoreUnavailableError,
)
from pythonic_assistant.domain.rule import rendered
from pythonic_assistant.domain.webhook import signed_headers
from worker.access import SecretStore
from worker.letters import letter_of
from worker.webhook import Answer, WebhookSender, body_of

log = logging.getLogger(__name__)

LEASE_SECONDS: Final = 120.0
"""Longer than the longest try, so that no other worker sends the same meanwhile."""
MAIL_SECONDS: Final = 90.0
LONGEST_WAIT_SECONDS: Final = 30.0
"""Between two looks when no hint comes; hints can be lost."""
_SHORTEST_WAIT_SECONDS: Final = 0.05
_MOST_AT_ONCE: Final = 8
_FAREWELL_SECONDS: Final = 5.0


class DeliveryStore(Protocol):
    """As `SupabaseDeliveries`."""

    async def claim(self, most: int) -> Due: ...

    async def finish(self, delivery: DueDelivery, status: int | None = None) -> bool: ...

    async def fail(
        self, delivery: DueDelivery, error: str, *, retryable: bool, status: int | None = None
    ) -> bool: ...

    async def start_task(self, delivery: DueDelivery, prompt: str) -> int | None: ...


class Deliverer:
    """Takes what is due, some at a time, and sleeps until the next is.

    Args:
        secrets: people's, sealed.
        key: opens them; a webhook's value is in memory while it signs and nowhere else.
        mailer: None while no mail server is set up; then e-mails are left to other workers.
    """

    def __init__(
        self,
        store: DeliveryStore,
        *,
        secrets: SecretStore,
        key: WorkerKey,
        webhooks: WebhookSender,
        mailer: Mailer | None,
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._key = key
        self._webhooks = webhooks
        self._mailer = mailer
        self._wake = asyncio.Event()
        self._stopped = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()

    def wake(self, _payload: Mapping[str, Any] | None = None) -> None:
        """A hint that something may be due."""
        self._wake.set()

    def stop(self) -> None:
        """Take no more; `serve` returns when what is under way has ended, or after some seconds."""
        self._stopped.set()
        self._wake.set()

    async def serve(self) -> None:
        """Deliver until `stop`. What is broken off then is taken up by another worker when its lease ends."""
        async with asyncio.TaskGroup() as group:
            while not self._stopped.is_set():
                self._wake.clear()
                wait = await self._take(group)
                try:
                    async with asyncio.timeout(wait):
                        await self._wake.wait()
                except TimeoutError:
                    continue
            if self._under_way:
                await asyncio.wait(self._under_way, timeout=_FAREWELL_SECONDS)
            for task in tuple(self._under_way):
                task.cancel()

    async def _take(self, group: asyncio.TaskGroup) -> float:
        """Claim as many as there is room for; returns how long to sleep, in seconds."""
        room = _MOST_AT_ONCE - len(self._under_way)
        if room <= 0:
            return LONGEST_WAIT_SECONDS  # the end of one of them wakes
        try:
            due = await self._store.claim(room)
        except (StoreUnavailableError, InvalidInputError) as error:
            log.warning("deliveries not claimed", extra={"action": "claim_deliveries", "reason": str(error)})
            return LONGEST_WAIT_SECONDS
        for delivery in due.deliveries:
            task = group.create_task(self._deliver(delivery), name=f"delivery-{delivery.id}")
            self._under_way.add(task)
            task.add_done_callback(self._ended)
        if len(due.deliveries) == room:
            return LONGEST_WAIT_SECONDS
        next_due = LONGEST_WAIT_SECONDS if due.next_due_seconds is None else due.next_due_seconds
        return max(_SHORTEST_WAIT_SECONDS, min(next_due, LONGEST_WAIT_SECONDS))

    def _ended(self, task: asyncio.Task[None]) -> None:
        full = len(self._under_way) >= _MOST_AT_ONCE
        self._under_way.discard(task)
        if full:
            self._wake.set()

    async def _deliver(self, delivery: DueDelivery) -> None:
        extra = {"action": "delivery", "delivery": delivery.id, "kind": delivery.action}
        try:
            await self._try(delivery)
        except StoreUnavailableError as error:
            # Nothing can be said of it: the lease ends, and it is tried again under the same id.
            log.warning("delivery not recorded", extra={**extra, "reason": str(error)})
        except AssistantError as error:
            retryable = isinstance(error, RetryableError)
            log.info("delivery failed", extra={**extra, "retryable": retryable})
            await self._fail(delivery, str(error), retryable=retryable)
        except Exception as error:
            # A fault of ours must not take the other deliveries, or the worker, with it.
            log.exception("delivery broke", extra=extra)
            await self._fail(
                delivery,
                f"The worker made a mistake ({type(error).__name__}). Its log has the details.",
                retryable=True,
            )

    async def _try(self, delivery: DueDelivery) -> None:
        match delivery.action:
            case "webhook":
                answer = await self._post(delivery)
                if 200 <= answer.status < 300:
                    await self._store.finish(delivery, answer.status)
                else:
                    said = f": {answer.text}" if answer.text else "."
                    await self._store.fail(
                        delivery,
                        f"The receiver answered {answer.status}{said}",
                        retryable=answer.status != 410,
                        status=answer.status,
                    )
            case "email":
                await self._mail(delivery)
                await self._store.finish(delivery)
            case "task":
                values: Mapping[str, object] = delivery.payload.get("data", {})
                await self._store.start_task(
                    delivery, rendered(str(delivery.target.get("prompt", "")), values)
                )

    async def _post(self, delivery: DueDelivery) -> Answer:
        url = str(delivery.target.get("url", ""))
        secret = await self._signing_secret(delivery)
        body = body_of(delivery.payload)
        headers = signed_headers(secret, delivery=delivery.id, timestamp=int(time.time()), body=body)
        return await self._webhooks.post(url, headers, body)

    async def _signing_secret(self, delivery: DueDelivery) -> str:
        sealed = await self._secrets.of_person(delivery.user_id)
        found = next((secret for secret in sealed if secret.name == delivery.secret), None)
        if found is None:
            raise PermanentError(
                f"There is no secret {delivery.secret} to sign with any more: enter it again."
            )
        url = str(delivery.target.get("url", ""))
        if url.removeprefix("https://").partition("/")[0].partition("?")[0].lower() not in found.hosts:
            raise PermanentError(f"The secret {found.name} is not for the host of this address.")
        if found.key_id != self._key.key_id:
            raise RetryableError(
                f"The secret {found.name} is sealed to the key of another worker: enter it again, or give "
                "this worker that key in PYTHONIC_SECRETS_KEY."
            )
        value = self._key.open(found.ciphertext)
        await self._secrets.used([found.id])
        return value

    async def _mail(self, delivery: DueDelivery) -> None:
        if self._mailer is None:
            raise RetryableError(
                "This worker has no mail server: set PYTHONIC_SMTP_URL and PYTHONIC_MAIL_FROM."
            )
        if delivery.to is None:
            raise PermanentError(
                "There is no address that this e-mail may go to: see PYTHONIC_MAIL_TO in .env.example."
            )
        subject, text = letter_of(delivery.payload, rule=delivery.rule)
        at = datetime.fromisoformat(str(delivery.payload["timestamp"]))
        letter = Letter(id=delivery.id, to=delivery.to, subject=subject, text=text, at=at)
        try:
            async with asyncio.timeout(MAIL_SECONDS):
                await self._mailer.send(letter)
        except TimeoutError as error:
            raise RetryableError(
                f"The mail server did not take the e-mail within {MAIL_SECONDS:g} s."
            ) from error

    async def _fail(self, delivery: DueDelivery, error: str, *, retryable: bool) -> None:
        try:
            await self._store.fail(delivery, error, retryable=retryable)
        except (StoreUnavailableError, InvalidInputError) as refused:
            log.warning(
                "delivery not recorded",
                extra={"action": "delivery", "delivery": delivery.id, "reason": str(refused)},
            )
