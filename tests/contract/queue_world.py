"""What the contract of the queue's adapters is tried on: one queue name, its own people, each way to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID, uuid4

import asyncpg
import httpx
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from pythonic_assistant.adapters.realtime_line import RealtimeLine, Subscription
from pythonic_assistant.adapters.store.postgres_listener import PostgresListener
from pythonic_assistant.adapters.store.postgres_queue import PostgresQueue
from pythonic_assistant.adapters.store.queue_functions import QueueFunctions
from pythonic_assistant.adapters.store.supabase_queue import SupabaseQueue
from pythonic_assistant.ports import Fence
from tests.embedded_fixtures import RunningSupabase
from tests.servers.between import Pooler, pooler

Way = Literal["direct", "pooler", "api"]
WAYS: tuple[Way, ...] = ("direct", "pooler", "api")
"""`pooler` is the direct adapter through a pooler in transaction mode."""


@dataclass
class World:
    """One queue name; whatever is opened here is closed at the end."""

    supabase: RunningSupabase
    client: AsyncClient
    database: asyncpg.Connection[Any]
    pooled: Pooler
    name: str = field(default_factory=lambda: f"q-{uuid4()}")
    people: list[UUID] = field(default_factory=list[UUID])
    opened: list[QueueFunctions] = field(default_factory=list[QueueFunctions])

    def queue(
        self, way: Way, *, worker: UUID | None = None, labels: Sequence[str] = (), lease_seconds: float = 30
    ) -> QueueFunctions:
        """The adapter for a way; its worker is a new one unless it is given."""
        worker = worker or uuid4()
        if way == "api":
            made: QueueFunctions = SupabaseQueue(
                self.client, worker=worker, lease_seconds=lease_seconds, queue=self.name, labels=labels
            )
        else:
            made = PostgresQueue(
                self.pooled.url if way == "pooler" else self.supabase.database_url,
                worker=worker,
                lease_seconds=lease_seconds,
                queue=self.name,
                labels=labels,
                by_transaction=way == "pooler",
            )
        self.opened.append(made)
        return made

    async def person(self) -> UUID:
        made = uuid4()
        await self.database.execute(
            "insert into auth.users (id, email) values ($1, $2)", made, f"{made}@example.com"
        )
        self.people.append(made)
        return made

    async def add(self, person: UUID, **columns: Any) -> int:
        given = {"user_id": person, "prompt": "do it", "queue": self.name} | columns
        marks = ", ".join(f"${number}" for number in range(1, len(given) + 1))
        return await self.database.fetchval(
            f"insert into public.tasks ({', '.join(given)}) values ({marks}) returning id", *given.values()
        )

    async def task(self, task: int) -> asyncpg.Record:
        row = await self.database.fetchrow("select * from public.tasks where id = $1", task)
        assert row is not None
        return row

    async def lose_the_lease(self, task: int) -> None:
        await self.database.execute(
            "update public.tasks set lease_until = now() - interval '1 second' where id = $1", task
        )

    @asynccontextmanager
    async def hearing(self, way: Way, worker: UUID) -> AsyncIterator[Hints]:
        """What a worker hears that goes this way."""
        hints = Hints()
        if way == "direct":
            line: PostgresListener | RealtimeLine = PostgresListener(
                self.supabase.database_url,
                worker=worker,
                queue=self.name,
                on_queued=hints.told("queued"),
                on_cancel=hints.told("cancel"),
                on_up=hints.up.set,
                on_down=hints.up.clear,
            )
        else:
            on_broadcast = {"queued": hints.told("queued"), "cancel": hints.told("cancel")}
            line = RealtimeLine(
                url=self.supabase.url,
                key=self.supabase.secret_key,
                subscriptions=(Subscription(topic="queue", on_broadcast=on_broadcast),),
                on_up=hints.up.set,
                on_down=hints.up.clear,
            )
        keeping = asyncio.create_task(line.keep())
        try:
            async with asyncio.timeout(20):
                await hints.up.wait()
            yield hints
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})


@dataclass
class Hints:
    """What was heard, with the times at which it was."""

    up: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Queue[tuple[str, Mapping[str, Any], float]] = field(
        default_factory=asyncio.Queue[tuple[str, Mapping[str, Any], float]]
    )

    def told(self, event: str) -> Callable[[Mapping[str, Any]], None]:
        def took(payload: Mapping[str, Any]) -> None:
            self.heard.put_nowait((event, payload, asyncio.get_running_loop().time()))

        return took

    async def until(self, event: str, **fields: Any) -> float:
        """Wait for a hint; returns when it came."""
        async with asyncio.timeout(10):
            while True:
                found, payload, at = await self.heard.get()
                if found == event and fields.items() <= payload.items():
                    return at


@asynccontextmanager
async def open_world(supabase: RunningSupabase) -> AsyncIterator[World]:
    async with (
        httpx.AsyncClient(timeout=20, trust_env=False) as http,
        pooler(supabase.database_url) as pooled,
    ):
        options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
        client = await acreate_client(supabase.url, supabase.secret_key, options)
        database = await asyncpg.connect(supabase.database_url)
        world = World(supabase, client, database, pooled)
        try:
            yield world
        finally:
            for queue in world.opened:
                await queue.close()
            await database.execute("delete from auth.users where id = any($1)", world.people)
            await database.close()
            await client.realtime.close()


def noted(seq: int, text: str = "x", kind: str = "noted") -> dict[str, Any]:
    """A row for `append`."""
    return {
        "seq": seq,
        "kind": kind,
        "step_id": None,
        "at": "2026-11-22T12:00:00+00:00",
        "data": {"text": text, "level": "info"},
    }


def loaded(value: Any) -> Any:
    """A jsonb column."""
    return json.loads(value)


def fence_of(task: Any) -> Fence:
    """The fence of a claimed task."""
    return Fence(task.id, task.attempt)
