"""The way to the queue: PostgreSQL itself where its address is configured, else Supabase's API."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from supabase import AsyncClient

from pythonic_assistant.adapters.realtime_line import RealtimeLine, Subscription
from pythonic_assistant.adapters.store.calls import call
from pythonic_assistant.adapters.store.postgres_listener import PostgresListener
from pythonic_assistant.adapters.store.postgres_queue import PostgresQueue
from pythonic_assistant.adapters.store.postgres_session import is_pooled_by_transaction
from pythonic_assistant.adapters.store.queue_functions import QueueFunctions
from pythonic_assistant.adapters.store.supabase_queue import SupabaseQueue
from pythonic_assistant.domain.errors import ConfigurationError, InvalidInputError, StoreUnavailableError
from pythonic_assistant.ports import Facts
from worker.config import WorkerConfig
from worker.engine import Engine

log = logging.getLogger(__name__)

FIRST_WAIT_SECONDS: Final = 0.2
LONGEST_WAIT_SECONDS: Final = 5.0

Way = Literal["direct", "pooler", "api"]
"""`pooler`: PostgreSQL through a pooler by the transaction, where nothing can be listened to."""

SAID: Final[dict[Way, str]] = {
    "direct": "directly on PostgreSQL",
    "pooler": (
        "on PostgreSQL through a pooler in transaction mode, which cannot wake a worker: tasks are told by "
        "Realtime and looked for every few seconds. Use port 5432 in SUPABASE_DB_URL to be woken at once."
    ),
    "api": "over the Supabase API",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """The queue, and the way to it."""

    way: Way
    queue: QueueFunctions


async def reach(
    config: WorkerConfig,
    client: AsyncClient,
    worker: UUID,
    facts: Callable[[Way], Facts],
    tell: Callable[[str], None],
) -> Reached:
    """Choose the way by what is configured; waits until the database answers.

    Args:
        facts: what others shall know of this worker that goes this way.
        tell: takes a sentence about why it is not reached yet.

    Raises:
        ConfigurationError: the two addresses are of two databases, or one cannot be used.
    """
    wait = FIRST_WAIT_SECONDS
    while True:
        try:
            return await _reach(config, client, worker, facts)
        except (StoreUnavailableError, InvalidInputError) as error:
            log.warning("queue not reached yet", extra={"action": "reach", "reason": str(error)})
            tell(str(error))
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)


async def _reach(
    config: WorkerConfig, client: AsyncClient, worker: UUID, facts: Callable[[Way], Facts]
) -> Reached:
    if config.database_url is None:
        queue = SupabaseQueue(
            client,
            worker=worker,
            lease_seconds=config.lease_seconds,
            queue=config.queue,
            labels=config.labels,
        )
        return Reached(way="api", queue=queue)
    pooled = await is_pooled_by_transaction(config.database_url)
    direct = PostgresQueue(
        config.database_url,
        worker=worker,
        lease_seconds=config.lease_seconds,
        queue=config.queue,
        labels=config.labels,
        by_transaction=pooled,
    )
    way: Way = "pooler" if pooled else "direct"
    try:
        await _require_same_database(direct, client, facts(way))
    except BaseException:
        await direct.close()
        raise
    return Reached(way=way, queue=direct)


async def _require_same_database(direct: PostgresQueue, client: AsyncClient, facts: Facts) -> None:
    """Write through one, read through the other."""
    await direct.seen(facts)
    reply = await call(
        "read the worker's own row",
        client.table("workers").select("started_at").eq("id", str(direct.worker)).execute(),
    )
    rows: Any = reply.data
    written = datetime.fromisoformat(str(facts["started_at"]))
    if not any(datetime.fromisoformat(row["started_at"]) == written for row in rows):
        raise ConfigurationError(
            "SUPABASE_DB_URL and SUPABASE_URL are of two databases: take both from the same project, or "
            "remove SUPABASE_DB_URL to use the API alone."
        )


async def keep_hearing(
    reached: Reached,
    config: WorkerConfig,
    engine: Engine,
    seen: Subscription,
    others: Mapping[str, Callable[[Mapping[str, Any]], None]],
) -> None:
    """Hear of tasks and of other work, and be present for people, until cancelled.

    Args:
        seen: the Presence of this worker.
        others: who else wants to hear of which broadcast to workers. These come over Realtime either way.
    """
    if reached.way == "direct" and config.database_url is not None:
        listener = PostgresListener(
            config.database_url,
            worker=reached.queue.worker,
            queue=reached.queue.queue,
            on_queued=engine.wake,
            on_cancel=engine.cancel,
            on_up=_set_hints(engine, up=True),
            on_down=_set_hints(engine, up=False),
        )
        heard = Subscription(topic="queue", on_broadcast=others)
        line = _line(config, (heard, seen), _nothing_to_do, _nothing_to_do)
        async with asyncio.TaskGroup() as group:
            group.create_task(listener.keep(), name="listener")
            group.create_task(line.keep(), name="realtime")
        return
    hints = Subscription(
        topic="queue", on_broadcast={"queued": engine.wake, "cancel": engine.cancel, **others}
    )
    await _line(config, (hints, seen), _set_hints(engine, up=True), _set_hints(engine, up=False)).keep()


def _line(
    config: WorkerConfig,
    subscriptions: tuple[Subscription, ...],
    on_up: Callable[[], None],
    on_down: Callable[[], None],
) -> RealtimeLine:
    return RealtimeLine(
        url=config.supabase_url,
        key=config.supabase_key,
        subscriptions=subscriptions,
        on_up=on_up,
        on_down=on_down,
    )


def _set_hints(engine: Engine, *, up: bool) -> Callable[[], None]:
    def changed() -> None:
        engine.condition.hints = up
        if up:
            engine.back()

    return changed


def _nothing_to_do() -> None:
    """Tasks are told another way."""
