"""What every queue of `bench_queue` can be asked to do, so that all are measured by the same code."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.queue_sql import connect

Handler = Callable[[], Awaitable[None]]
"""What a worker does for each task."""

CONCURRENCY = 10


class Contestant(ABC):
    """One queue on one database.

    Args:
        url: of its database, in which nothing else is.
    """

    name: str
    slow = 1
    """Divides the number of tasks of a round, so that each takes about a second."""

    def __init__(self, url: str) -> None:
        self.url = url
        # Any: asyncpg has no types of its own.
        self.sql: Any = None

    async def open(self) -> None:
        """Connect."""
        self.sql = await connect(self.url)

    async def close(self) -> None:
        """Disconnect."""
        await self.sql.close()

    @abstractmethod
    async def install(self) -> None:
        """Make the schema, as the documentation says."""

    @abstractmethod
    async def enqueue(self) -> None:
        """Ask for one task, as a programme does that uses this queue."""

    @abstractmethod
    async def fill(self, count: int) -> None:
        """Ask for so many tasks, ready to start, through the same functions and triggers."""

    @abstractmethod
    async def work(self, handler: Handler) -> None:
        """Be a worker with ten tasks at once, as the documentation recommends, until cancelled."""

    def rescue(self) -> None:
        """Before `work`: be a worker that gives tasks of dead ones to others, where that is not usual."""
        return

    @abstractmethod
    async def claim(self) -> Any:
        """Claim one task, as the worker does; returns what `finish` takes, or None."""

    @abstractmethod
    async def finish(self, claimed: Any) -> None:
        """End a claimed task well."""

    @abstractmethod
    async def history(self, count: int) -> None:
        """Put rows of finished tasks, with statistics taken."""

    @abstractmethod
    async def backlog(self, count: int, *, due: bool) -> None:
        """Put rows of waiting tasks; statistics stay those of before."""

    @abstractmethod
    async def clear(self) -> None:
        """Remove all tasks, and take statistics of the empty tables; nothing takes them again."""

    @abstractmethod
    async def zombie_is_refused(self) -> bool:
        """Whether a worker that has lost its task to another cannot finish it any more."""

    async def by_hand(self, *statements: str) -> None:
        """Run statements in one transaction without triggers."""
        async with self.sql.transaction():
            await self.sql.execute("set local session_replication_role = replica")
            for statement in statements:
                await self.sql.execute(statement)

    async def claim_milliseconds(self) -> tuple[float, Any]:
        """How long one claim takes, and what was claimed."""
        began = time.perf_counter()
        claimed = await self.claim()
        took = (time.perf_counter() - began) * 1000
        if claimed is None:
            raise RuntimeError(f"{self.name} found no task where there are some.")
        return took, claimed
