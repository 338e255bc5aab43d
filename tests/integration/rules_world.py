"""A person with rules and tasks, played on the database itself, for tests of rules and deliveries."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from pythonic_assistant.adapters.secrets.keyring import WorkerKey, key_of
from pythonic_assistant.adapters.secrets.vault import generate_key, seal
from pythonic_assistant.domain.webhook import new_signing_secret

HOST = "hooks.example.org"
URL = f"https://{HOST}/tasks"


@dataclass
class RulesWorld:
    """One person, one queue, one worker that is played by hand."""

    connection: asyncpg.Connection[Any]
    person: UUID = field(default_factory=uuid4)
    queue: str = field(default_factory=lambda: f"q-{uuid4()}")
    worker: UUID = field(default_factory=uuid4)
    mailer: UUID = field(default_factory=uuid4)
    key: WorkerKey = field(default_factory=lambda: key_of(generate_key()))
    signing: str = field(default_factory=new_signing_secret)

    async def begin(self) -> None:
        await self.connection.execute(
            "insert into auth.users (id, email, email_confirmed_at) values ($1, $2, now())",
            self.person,
            f"{self.person}@mail.pythonic.dev",
        )
        await self.connection.execute(
            "insert into public.secret_keys (key_id, public_key) values ($1, $2)",
            self.key.key_id,
            self.key.public_key,
        )
        await self.connection.execute(
            "insert into public.secrets (user_id, name, hosts, ciphertext, key_id) "
            "values ($1, 'SIGN', $2, $3, $4)",
            self.person,
            [HOST],
            seal(self.key.public_key, self.signing),
            self.key.key_id,
        )

    async def end(self) -> None:
        await self.connection.execute("delete from public.mail_workers")
        await self.connection.execute("delete from auth.users where id = $1", self.person)
        await self.connection.close()

    async def as_person(self, query: str, *arguments: Any, who: UUID | None = None) -> Any:
        async with self.connection.transaction():
            await self.connection.execute(
                "select set_config('request.jwt.claims', $1, true), "
                "set_config('request.jwt.claim.sub', $2, true)",
                json.dumps({"sub": str(who or self.person), "role": "authenticated"}),
                str(who or self.person),
            )
            await self.connection.execute("set local role authenticated")
            return await self.connection.fetchval(query, *arguments)

    async def rule(self, name: str = "R", action: str = "webhook", **columns: Any) -> UUID:
        """Add a rule, as the person; what is not given is that of a webhook at every failure."""
        target = {"webhook": {"url": URL}, "email": {}, "task": {"prompt": "After {task_id}: {error}"}}
        given = {"pattern": {"states": ["failed"]}, "target": target.get(action, {})} | columns
        if action == "webhook":
            given.setdefault("secret", "SIGN")
        return await self.as_person(
            "insert into public.event_rules (name, action, pattern, target, secret) "
            "values ($1, $2, $3, $4, $5) returning id",
            name,
            action,
            json.dumps(given["pattern"]),
            json.dumps(given["target"]),
            given.get("secret"),
        )

    async def task(self, prompt: str = "do it", **columns: Any) -> int:
        names = ["user_id", "prompt", "queue", *columns]
        marks = ", ".join(f"${number}" for number in range(1, len(names) + 1))
        return await self.connection.fetchval(
            f"insert into public.tasks ({', '.join(names)}) values ({marks}) returning id",
            *(self.person, prompt, self.queue, *columns.values()),
        )

    async def claim(self) -> list[dict[str, Any]]:
        reply = await self.connection.fetchval(
            "select public.claim_tasks($1, $2, 10, 30, '[]')", self.worker, self.queue
        )
        return json.loads(reply)["tasks"]

    async def fail(self, prompt: str = "do it", *, retryable: bool = False, **columns: Any) -> int:
        """Ask a task, claim it, and have it fail."""
        task = await self.task(prompt, **columns)
        await self.claim()
        await self.fail_claimed(task, retryable=retryable)
        return task

    async def fail_claimed(self, task: int, attempt: int = 1, *, retryable: bool = False) -> None:
        ended = await self.connection.fetchval(
            "select public.fail_task($1, $2, $3, 'it broke', $4, '[]', '{}')",
            *(self.worker, task, attempt, retryable),
        )
        assert ended is True

    async def changes(self, task: int) -> list[tuple[str | None, str, str]]:
        rows = await self.connection.fetch(
            "select old_state, state, why from public.task_changes where task_id = $1 order by id", task
        )
        return [tuple(row) for row in rows]

    async def deliveries(self, rule: UUID | None = None) -> list[asyncpg.Record]:
        return await self.connection.fetch(
            "select * from public.deliveries where user_id = $1 and ($2::uuid is null or rule_id = $2) "
            "order by created_at, id",
            self.person,
            rule,
        )

    async def due(self) -> None:
        """Let time pass until every retry of the person is due."""
        await self.connection.execute(
            "update public.deliveries set next_try_at = now() - interval '1 second' "
            "where user_id = $1 and state = 'pending'",
            self.person,
        )

    async def mail_is_set_up(self, *allowed: str) -> None:
        await self.connection.execute(
            "insert into public.mail_workers (worker_id, can_mail, allowed) values ($1, true, $2) "
            "on conflict (worker_id) do update set can_mail = true, allowed = excluded.allowed",
            self.mailer,
            list(allowed),
        )
