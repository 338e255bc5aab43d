"""Being seen by whoever is signed in, also when there is nothing else that this worker can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import UUID

from pythonic_assistant.adapters.realtime_line import RealtimeLine, Subscription
from worker.config import WorkerConfig

TOPIC = "workers"


def presence_of(worker: UUID, track: Callable[[], Mapping[str, object]]) -> Subscription:
    """Where a worker says what it is.

    Args:
        track: gives what everyone may see, now.
    """
    return Subscription(topic=TOPIC, track=track, presence_key=str(worker))


async def only_be_seen(config: WorkerConfig, seen: Subscription) -> None:
    """Be present and claim nothing, until cancelled; a lost connection is made again."""
    line = RealtimeLine(
        url=config.supabase_url,
        key=config.supabase_key,
        subscriptions=(seen,),
        on_up=_nothing_to_do,
        on_down=_nothing_to_do,
    )
    await line.keep()


def _nothing_to_do() -> None:
    """Nothing was missed by a worker that waits for nothing."""
