"""The functions of the queue as workers and people call them."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import asyncpg


class Queue:
    """The functions as a worker (the service role) and as a person call them, one queue name per test."""

    def __init__(self, connection: asyncpg.Connection[Any], url: str) -> None:
        self.connection = connection
        self.url = url
        self.name = f"q-{uuid4()}"
        self.worker = uuid4()
        self.people: list[UUID] = []

    async def person(self) -> UUID:
        made = uuid4()
        await self.connection.execute(
            "insert into auth.users (id, email) values ($1, $2)", made, f"{made}@example.com"
        )
        self.people.append(made)
        return made

    async def add(self, person: UUID, prompt: str = "do it", **columns: Any) -> int:
        names = ["user_id", "prompt", "queue", *columns]
        marks = ", ".join(f"${number}" for number in range(1, len(names) + 1))
        return await self.connection.fetchval(
            f"insert into public.tasks ({', '.join(names)}) values ({marks}) returning id",
            person,
            prompt,
            self.name,
            *columns.values(),
        )

    async def task(self, task: int) -> asyncpg.Record:
        row = await self.connection.fetchrow("select * from public.tasks where id = $1", task)
        assert row is not None
        return row

    async def state(self, task: int) -> str:
        return (await self.task(task))["state"]

    async def claim(
        self, most: int = 10, worker: UUID | None = None, held: list[int] | None = None
    ) -> list[dict[str, Any]]:
        reply = await self.connection.fetchval(
            "select public.claim_tasks($1, $2, $3, 30, $4)",
            worker or self.worker,
            self.name,
            most,
            json.dumps(held or []),
        )
        return json.loads(reply)["tasks"]

    async def call(self, function: str, *arguments: Any) -> Any:
        marks = ", ".join(f"${number}" for number in range(1, len(arguments) + 1))
        return await self.connection.fetchval(f"select public.{function}({marks})", *arguments)

    async def finish(
        self, task: int, attempt: int, worker: UUID | None = None, verdict: str = "unverified"
    ) -> bool:
        evidence = '[{"check": "c", "outcome": "passed"}]' if verdict == "proven" else "[]"
        return await self.call(
            "finish_task", worker or self.worker, task, attempt, "the answer", verdict, evidence, "{}"
        )

    async def fail(self, task: int, attempt: int, *, retryable: bool, evidence: str = "[]") -> bool:
        return await self.call("fail_task", self.worker, task, attempt, "it broke", retryable, evidence, "{}")

    async def lose_the_lease(self, task: int) -> None:
        await self.connection.execute(
            "update public.tasks set lease_until = now() - interval '1 second' where id = $1", task
        )

    async def rows_read(self) -> tuple[int, int]:
        """How many rows of tasks this session has read: in a scan of the table, and by an index.

        The difference is exact within a transaction; the counters are set back between some.
        """
        row = await self.connection.fetchrow(
            """select seq_tup_read, idx_tup_fetch from pg_stat_xact_user_tables
            where relid = 'public.tasks'::regclass"""
        )
        assert row is not None
        return row["seq_tup_read"], row["idx_tup_fetch"]

    async def as_person(self, person: UUID, query: str, *arguments: Any) -> Any:
        async with self.connection.transaction():
            await self.connection.execute(
                """select set_config('request.jwt.claims', $1, true),
                set_config('request.jwt.claim.sub', $2, true)""",
                json.dumps({"sub": str(person), "role": "authenticated"}),
                str(person),
            )
            await self.connection.execute("set local role authenticated")
            return await self.connection.fetchval(query, *arguments)
