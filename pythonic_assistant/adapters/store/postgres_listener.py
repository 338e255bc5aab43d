"""The worker's second session of PostgreSQL: it hears of tasks at once, and is the worker's sign of life."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, Final, cast
from uuid import UUID

from pythonic_assistant.adapters.store.postgres_session import (
    CONNECT_SECONDS,
    Session,
    in_words,
    open_session,
)
from pythonic_assistant.domain.errors import StoreUnavailableError

log = logging.getLogger(__name__)

CHANNEL: Final = "pythonic_queue"
FIRST_WAIT_SECONDS: Final = 0.1
"""Short: who is not back soon after a restart of the database is taken for dead."""
LONGEST_WAIT_SECONDS: Final = 2.0
"""Well below the 5 s after a start of the server in which nobody is taken for dead: `gone_workers`."""
LOCK_SECONDS: Final = 5.0
"""Between two tries for the lock while another session has it."""

_LOCK: Final = (
    "select pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('pythonic.worker:' || $1, 0))"
)
"""Others look whether this lock is held: `reap_tasks` in supabase/migrations."""

Heard = Callable[[Mapping[str, Any]], None]


class PostgresListener:
    """Keeps a session open; when it is lost, a new one.

    Callbacks are called on the event loop and have to return at once.

    Args:
        url: of the database, where a session is one of PostgreSQL: not through a pooler by the transaction.
        worker: whose sign of life it is.
        queue: the name of the queue of interest.
        on_queued: a task of the queue may wait.
        on_cancel: a task is to be cancelled: `task_id`, `attempt`.
        on_up: called each time the session is there: what was told meanwhile is lost.
        on_down: called each time it was lost or could not be made.
    """

    def __init__(
        self,
        url: str,
        *,
        worker: UUID,
        queue: str,
        on_queued: Heard,
        on_cancel: Heard,
        on_up: Callable[[], None],
        on_down: Callable[[], None],
    ) -> None:
        self._url = url
        self._worker = str(worker)
        self._queue = queue
        self._on_queued = on_queued
        self._on_cancel = on_cancel
        self._on_up = on_up
        self._on_down = on_down
        self._was_up = False

    async def keep(self) -> None:
        """Run until cancelled.

        Raises:
            ConfigurationError: the user of the address may not act as the role of workers.
        """
        wait = FIRST_WAIT_SECONDS
        while True:
            self._was_up = False
            try:
                await self._hold()
            except StoreUnavailableError as error:
                log.info("listener lost", extra={"action": "listener_lost", "reason": str(error)})
            self._on_down()
            wait = FIRST_WAIT_SECONDS if self._was_up else min(wait * 2, LONGEST_WAIT_SECONDS)
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311  so that not all come at once

    async def _hold(self) -> None:
        """Listen until the session is lost.

        Raises:
            StoreUnavailableError: it is, or could not be opened.
        """
        session = await open_session(self._url, by_transaction=False)
        try:
            lost = asyncio.Event()
            session.add_termination_listener(lambda *_: lost.set())
            with in_words("listen"):
                async with asyncio.timeout(CONNECT_SECONDS):
                    await session.add_listener(CHANNEL, self._heard)
                    locked = await self._lock(session)
            if not locked:
                log.warning(
                    "another session has this worker's sign of life: an old one of its own that ends soon, "
                    "or another worker with a copy of its state folder",
                    extra={"action": "sign_of_life_taken", "worker": self._worker},
                )
            self._was_up = True
            self._on_up()
            while not await _set_within(lost, None if locked else LOCK_SECONDS):
                with in_words("take the lock"):
                    async with asyncio.timeout(CONNECT_SECONDS):
                        locked = await self._lock(session)
            raise StoreUnavailableError("PostgreSQL closed the connection.")
        finally:
            session.terminate()

    async def _lock(self, session: Session) -> bool:
        return bool(await session.fetchval(_LOCK, self._worker))

    def _heard(self, _session: object, _pid: int, _channel: str, payload: str) -> None:
        try:
            told: Any = json.loads(payload)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            log.info("not a hint", extra={"action": "hint_odd", "size": len(payload)})
            return
        hint = cast("Mapping[str, Any]", told)
        if hint.get("event") == "queued" and hint.get("queue") == self._queue:
            self._on_queued(hint)
        elif hint.get("event") == "cancel":
            self._on_cancel(hint)


async def _set_within(event: asyncio.Event, seconds: float | None) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
