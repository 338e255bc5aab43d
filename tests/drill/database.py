"""The drill's own way to the database: it outlives every death of it, and knows who waits at a breakpoint."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg

from tests.integration.ledger_desk import become

Result = TypeVar("Result")
BREAKPOINTS = Path(__file__).with_name("breakpoints.sql")
PATIENCE_SECONDS = 90.0


@dataclass(frozen=True)
class Stopped:
    """A transaction that stands at an armed place."""

    arm: int
    task: int
    place: str
    backend: int
    transaction: str


class Database:
    """One connection, made again whenever the server was killed; one call at a time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection: asyncpg.Connection[Any] | None = None
        self._lock = asyncio.Lock()

    async def run(self, work: Callable[[asyncpg.Connection[Any]], Awaitable[Result]]) -> Result:
        """Do something, again and again while the server is away.

        Raises:
            TimeoutError: it stays away.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                async with self._lock:
                    try:
                        if self._connection is None or self._connection.is_closed():
                            self._connection = await asyncpg.connect(self.url, timeout=10)
                        return await work(self._connection)
                    except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError,
                            asyncpg.PostgresConnectionError,
                            asyncpg.OperatorInterventionError):  # fmt: skip
                        if self._connection is not None:
                            self._connection.terminate()
                        self._connection = None
                await asyncio.sleep(0.05)

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """Rows."""
        return await self.run(lambda connection: connection.fetch(query, *arguments))

    async def value(self, query: str, *arguments: Any) -> Any:
        """The first column of the first row."""
        return await self.run(lambda connection: connection.fetchval(query, *arguments))

    async def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.terminate()

    async def prepare(self) -> None:
        """Put the breakpoints in."""
        await self.run(lambda connection: connection.execute(BREAKPOINTS.read_text()))

    async def person(self) -> tuple[UUID, UUID, UUID]:
        """A person with two assistants: one that acts freely, one that asks."""
        made = uuid4()
        await self.value("insert into auth.users (id, email) values ($1, $2)", made, f"{made}@example.com")
        await self.value("update public.profiles set active_limit = 50 where id = $1", made)
        one, other = [
            await self.value(
                """insert into public.assistants (user_id, name, hosts, tools, write_policy)
                values ($1, $2, '{drill.example.org}', '{send_message}', $3) returning id""",
                made,
                f"drill {policy}",
                policy,
            )
            for policy in ("allow", "ask")
        ]
        return made, one, other

    async def ask(self, *, label: str, person: UUID, assistant: UUID, text: str, places: list[str]) -> int:
        """Add a task together with its breakpoints, so that it passes none of them; returns its id."""

        async def work(connection: asyncpg.Connection[Any]) -> int:
            async with connection.transaction():
                task = await connection.fetchval(
                    """insert into public.tasks (user_id, assistant_id, prompt, labels, max_failures)
                    values ($1, $2, $3, array[$4], 100) returning id""",
                    person, assistant, text, label,
                )  # fmt: skip
                await connection.executemany(
                    "insert into drill.arms (task, place) values ($1, $2)",
                    [(task, place) for place in places],
                )
            return task

        return await self.run(work)

    async def stopped(self) -> list[Stopped]:
        """Who stands at a breakpoint, as the server's own table of locks has it."""
        rows = await self.fetch(
            """select a.id, a.task, a.place, l.pid, s.backend_xid::text as xid
            from pg_catalog.pg_locks l join drill.arms a on a.id = l.objid::integer
            join pg_catalog.pg_stat_activity s on s.pid = l.pid
            where l.locktype = 'advisory' and l.classid = 7411 and l.granted and s.backend_xid is not null"""
        )
        return [Stopped(row["id"], row["task"], row["place"], row["pid"], row["xid"]) for row in rows]

    async def outcome(self, transaction: str) -> str:
        """How a transaction stands: committed, aborted, or in progress."""
        try:
            return await self.value("select pg_xact_status($1::text::xid8)", transaction)
        except asyncpg.InvalidParameterValueError:
            return "aborted"  # a crash forgot even its number

    async def disarm(self, task: int, place: str) -> None:
        """Let who stands there go on, and nobody stop there again."""
        await self.value("update drill.arms set armed = false where task = $1 and place = $2", task, place)

    async def end_backend(self, backend: int) -> None:
        """End a session with what it was about to write."""
        await self.value("select pg_terminate_backend($1, 10000)", backend)

    async def decide(self, person: UUID, approval: int, decision: str) -> bool:
        """Decide as the person; False when it is decided already. On a connection of its own."""
        connection = await asyncpg.connect(self.url, timeout=10)
        try:
            async with connection.transaction():
                await become(connection, person)
                said = await connection.fetchval(
                    "select public.decide_approval($1, $2, null, false)", approval, decision
                )
            return bool(json.loads(said))
        except asyncpg.InvalidParameterValueError:
            return False
        finally:
            connection.terminate()
