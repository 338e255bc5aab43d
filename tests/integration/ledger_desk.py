"""The functions of the ledger as a worker and as people call them; each desk has a queue of its own."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import UUID, uuid4

import asyncpg


class Desk:
    """One worker (the service role) and any number of people."""

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

    async def running(self, person: UUID | None = None, **columns: Any) -> int:
        """Add a task and claim it; returns its id."""
        names = ["user_id", "prompt", "queue", *columns]
        marks = ", ".join(f"${number}" for number in range(1, len(names) + 1))
        task = await self.connection.fetchval(
            f"insert into public.tasks ({', '.join(names)}) values ({marks}) returning id",
            person or await self.person(),
            "do it",
            self.name,
            *columns.values(),
        )
        await self.claim()
        return task

    async def claim(self) -> list[dict[str, Any]]:
        reply = await self.connection.fetchval(
            "select public.claim_tasks($1, $2, 10, 30, '[]')", self.worker, self.name
        )
        return json.loads(reply)["tasks"]

    async def interrupted(self, task: int) -> int:
        """Let the worker of a task be lost, and another attempt begin; returns its number."""
        await self.connection.execute(
            "update public.tasks set lease_until = now() - interval '1 second' where id = $1", task
        )
        (claimed,) = await self.claim()
        assert claimed["id"] == task
        return claimed["attempt"]

    async def begin(
        self, task: int, attempt: int = 1, *, arguments: str = "a", **fields: Any
    ) -> dict[str, Any]:
        """Begin an effect; `arguments` stands for what is done, `ordinal` for the how-manyth time."""
        worker = fields.pop("worker", self.worker)
        ordinal = fields.pop("ordinal", 1)
        name = fields.get("name", "send_message")
        digest = hashlib.sha256(f"{name} {arguments}".encode()).hexdigest()
        step = fields.get("step_id", "s1")
        effect = {
            "effect_key": f"{step}/{digest[:32]}/{ordinal}",
            "digest": digest,
            "step_id": step,
            "execution": 1,
            "kind": "tool",
            "name": name,
            "risk": "write",
            "request": {"arguments": arguments},
            "call": str(uuid4()),
            **fields,
        }
        said = json.loads(
            await self.connection.fetchval(
                "select public.begin_effect($1, $2, $3, $4)", worker, task, attempt, json.dumps(effect)
            )
        )
        return {"key": effect["effect_key"], **said}

    async def end(
        self,
        task: int,
        key: str,
        state: str = "succeeded",
        *,
        attempt: int = 1,
        result: Any = None,
        **other: Any,
    ) -> bool:
        return await self.connection.fetchval(
            "select public.end_effect($1, $2, $3, $4, $5, $6, $7)",
            other.get("worker", self.worker),
            task,
            attempt,
            key,
            state,
            None if result is None else json.dumps(result),
            other.get("error"),
        )

    async def wait(self, task: int, attempt: int = 1) -> bool:
        return await self.connection.fetchval(
            "select public.wait_task($1, $2, $3, 'a decision', '{}')", self.worker, task, attempt
        )

    async def state(self, task: int) -> str:
        return await self.connection.fetchval("select state from public.tasks where id = $1", task)

    async def effects(self, task: int) -> list[tuple[str, str]]:
        rows = await self.connection.fetch(
            "select name, state from public.effects where task_id = $1 order by id", task
        )
        return [(row["name"], row["state"]) for row in rows]

    async def as_person(self, person: UUID, query: str, *arguments: Any) -> Any:
        async with self.connection.transaction():
            await become(self.connection, person)
            return await self.connection.fetchval(query, *arguments)

    async def decide(
        self, person: UUID, approval: int, decision: str, answer: str | None = None, *, always: bool = False
    ) -> dict[str, Any]:
        return json.loads(
            await self.as_person(
                person, "select public.decide_approval($1, $2, $3, $4)", approval, decision, answer, always
            )
        )


async def become(connection: asyncpg.Connection[Any], person: UUID) -> None:
    """For the rest of the transaction, be a signed-in person."""
    await connection.execute(
        """select set_config('request.jwt.claims', $1, true),
        set_config('request.jwt.claim.sub', $2, true)""",
        json.dumps({"sub": str(person), "role": "authenticated"}),
        str(person),
    )
    await connection.execute("set local role authenticated")
