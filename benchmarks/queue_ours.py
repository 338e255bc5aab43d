"""This project's queue for `bench_queue`: the real engine, adapter, functions and triggers; only no runner.

Tasks are those of people, with a thread and messages; each person has as many as may be active at once.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

from benchmarks.queue_contestant import CONCURRENCY, Contestant, Handler
from benchmarks.queue_sql import connect
from pythonic_assistant.adapters.store.postgres_listener import PostgresListener
from pythonic_assistant.adapters.store.postgres_queue import PostgresQueue
from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.ending import Finished
from pythonic_assistant.domain.task import ClaimedTask
from pythonic_assistant.domain.verdict import Verdict
from pythonic_assistant.ports import Endings, Fence
from worker.attempt import Attempt
from worker.config import WorkerConfig
from worker.engine import Engine

TASKS_OF_A_PERSON = 5
"""As many as a person may have active by default."""
TABLES = "public.tasks, public.threads, public.messages"


class NoOpAttempt:
    """In place of `worker.attempt.Attempt`: does what the benchmark wants, and ends well."""

    def __init__(self, task: ClaimedTask, endings: Endings, handler: Handler) -> None:
        self.task = task
        self.fence = Fence(task.id, task.attempt)
        self._endings = endings
        self._handler = handler

    def stop(self, _reason: str) -> None:
        """It ends by itself."""

    async def work(self) -> None:
        """Call the handler, then finish the task."""
        await self._handler()
        await self._endings.end(finished(self.task.id, self.task.attempt))


def finished(task: int, attempt: int) -> Finished:
    """The smallest answer that there is."""
    return Finished(
        task_id=task, attempt=attempt, answer="done", verdict=Verdict(kind="unverified"), usage=Usage()
    )


async def serve(url: str, handler: Handler, *, slots: int = CONCURRENCY, worker: UUID | None = None) -> None:
    """Be a worker until cancelled."""
    worker = worker or uuid4()
    config = WorkerConfig(supabase_url="", supabase_key="", home=Path(), database_url=url, slots=slots)
    queue = PostgresQueue(url, worker=worker, lease_seconds=config.lease_seconds)

    def attempt_of(task: ClaimedTask, endings: Endings) -> Attempt:
        return cast("Attempt", NoOpAttempt(task, endings, handler))

    engine = Engine(
        config=config,
        queue=queue,
        store=queue,
        attempt_of=attempt_of,
        facts=lambda: {"host": "benchmark", "slots": slots, "adapter": "direct"},
    )

    def hints(up: bool) -> None:
        engine.condition.hints = up
        if up:
            engine.back()

    listener = PostgresListener(
        url,
        worker=worker,
        queue="default",
        on_queued=engine.wake,
        on_cancel=engine.cancel,
        on_up=lambda: hints(True),
        on_down=lambda: hints(False),
    )
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(listener.keep())
            group.create_task(engine.serve())
    finally:
        await queue.close()


class Ours(Contestant):
    """The queue of `supabase/migrations`, through `PostgresQueue`."""

    name = "ours"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._people: list[UUID] = []
        self._queue = self._adapter()
        self._asking: Any = None

    def _adapter(self) -> PostgresQueue:
        return PostgresQueue(self.url, worker=uuid4(), lease_seconds=30)

    async def close(self) -> None:
        await self._queue.close()
        if self._asking is not None:
            await self._asking.close()
        await super().close()

    async def install(self) -> None:
        """Nothing: the server was started with the migrations."""

    async def people(self, count: int) -> list[UUID]:
        """So many people; they are made once."""
        missing = [uuid4() for _ in range(count - len(self._people))]
        if missing:
            await self.sql.execute(
                "insert into auth.users (id, email) select n, n || '@example.com' from unnest($1::uuid[]) n",
                missing,
            )
            self._people += missing
        return self._people[:count]

    async def enqueue(self) -> None:
        if self._asking is None:
            (person,) = await self.people(1)
            self._asking = await connect(self.url)
            claims = json.dumps({"sub": str(person), "role": "authenticated"})
            await self._asking.execute("select set_config('request.jwt.claims', $1, false)", claims)
            await self._asking.execute("set role authenticated")
        await self._asking.fetchval("select id from public.enqueue_task($1)", "do nothing")

    async def fill(self, count: int) -> None:
        people = await self.people(-(-count // TASKS_OF_A_PERSON))
        whose = [person for person in people for _ in range(TASKS_OF_A_PERSON)][:count]
        for start in range(0, count, 1000):
            await self.sql.execute(
                "insert into public.tasks (user_id, prompt) select n, 'do nothing' from unnest($1::uuid[]) n",
                whose[start : start + 1000],
            )

    async def work(self, handler: Handler) -> None:
        await serve(self.url, handler)

    async def claim(self) -> Any:
        found = (await self._queue.cycle((), 1, ())).claim.tasks
        return found[0] if found else None

    async def finish(self, claimed: Any) -> None:
        if not await self._queue.end(finished(claimed.id, claimed.attempt)):
            raise RuntimeError("a finish was refused")

    async def history(self, count: int) -> None:
        await self.people(1000)
        await self.by_hand(
            f"""insert into public.tasks
                (user_id, prompt, kind, state, attempt, started_at, finished_at, answer, verdict)
            select p.id, 'do nothing', 'task', 'succeeded', 1, now(), now(), 'done', 'unverified'
            from (select id, row_number() over () as n from public.profiles limit 1000) p,
                generate_series(1, {count} / 1000)"""
        )
        await self.sql.execute(f"vacuum analyze {TABLES}")

    async def backlog(self, count: int, *, due: bool) -> None:
        await self.people(1000)
        state, later = ("queued", "now()") if due else ("scheduled", "now() + interval '1 day'")
        await self.by_hand(
            f"""with made as (
                insert into public.threads (user_id, title)
                select p.id, 'do nothing'
                from (select id from public.profiles limit 1000) p, generate_series(1, {count} / 1000)
                returning id, user_id)
            insert into public.tasks (user_id, thread_id, prompt, kind, state, run_at)
            select m.user_id, m.id, 'do nothing', 'task', '{state}', {later} from made m"""
        )

    async def clear(self) -> None:
        await self.sql.execute(f"truncate {TABLES}, realtime.messages cascade")
        for table in TABLES.split(", "):
            await self.sql.execute(f"alter table {table} set (autovacuum_enabled = off)")
        await self.sql.execute(f"vacuum analyze {TABLES}")

    async def zombie_is_refused(self) -> bool:
        await self.fill(1)
        first = await self.claim()
        await self.sql.execute(
            "update public.tasks set lease_until = now() - interval '1 hour' where id = $1", first.id
        )
        other = self._adapter()
        try:
            again = (await other.cycle((), 1, ())).claim.tasks
            if [task.id for task in again] != [first.id]:
                raise RuntimeError("the task was not given to another worker")
            kept = await self._queue.end(finished(first.id, first.attempt))
            state = await self.sql.fetchval("select state from public.tasks where id = $1", first.id)
            await other.end(finished(first.id, again[0].attempt))
            return not kept and state == "running"
        finally:
            await other.close()
