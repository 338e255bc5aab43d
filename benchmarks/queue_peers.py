"""Two task queues for Python on PostgreSQL, each driven as its documentation recommends."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from importlib import import_module
from typing import Any
from uuid import uuid4

from benchmarks.queue_contestant import CONCURRENCY, Contestant, Handler
from benchmarks.queue_sql import connect


class Procrastinate(Contestant):
    """procrastinate on psycopg 3, its recommended connector, with a worker as its command starts one.

    Tasks of dead workers are given to others by a periodic task, as its documentation has it under "Retry
    stalled jobs", only that it looks every five seconds and not every ten minutes; where nobody dies it is
    left out.
    """

    name = "procrastinate"
    slow = 5

    def __init__(self, url: str) -> None:
        super().__init__(url)
        # Any: only `make bench-queue` installs it.
        self._package: Any = import_module("procrastinate")
        self._app = self._package.App(connector=self._package.PsycopgConnector(conninfo=url))
        self._task = self._app.task(name="nothing", pass_context=False)(self._handle)
        self._handler: Handler | None = None
        self._worker: int | None = None

    def rescue(self) -> None:
        stalled = self._app.task(name="retry_stalled", queueing_lock="retry_stalled", pass_context=True)
        self._app.periodic(cron="* * * * * */5")(stalled(self._retry_stalled))

    async def open(self) -> None:
        await super().open()
        await self._app.open_async()

    async def close(self) -> None:
        await self._app.close_async()
        await super().close()

    async def install(self) -> None:
        await self._app.schema_manager.apply_schema_async()

    async def enqueue(self) -> None:
        await self._task.defer_async()

    async def fill(self, count: int) -> None:
        for start in range(0, count, 1000):
            await self._task.batch_defer_async(*[{} for _ in range(min(1000, count - start))])
        # Again each time: a worker process forgets the workers that have been silent for half a minute.
        self._worker = await self._app.job_manager.register_worker()

    async def _handle(self) -> None:
        if self._handler is not None:
            await self._handler()

    async def _retry_stalled(self, _context: Any, **_timestamp: int) -> None:
        for job in await self._app.job_manager.get_stalled_jobs():
            await self._app.job_manager.retry_job(job)

    async def work(self, handler: Handler) -> None:
        self._handler = handler
        await self._app.run_worker_async(concurrency=CONCURRENCY, install_signal_handlers=False)

    async def claim(self) -> Any:
        return await self._app.job_manager.fetch_job(queues=None, worker_id=self._worker)

    async def finish(self, claimed: Any) -> None:
        status = import_module("procrastinate.jobs").Status.SUCCEEDED
        await self._app.job_manager.finish_job(job=claimed, status=status, delete_job=False)

    async def history(self, count: int) -> None:
        await self.by_hand(
            f"""insert into procrastinate_jobs (queue_name, task_name, status, attempts)
            select 'default', 'nothing', 'succeeded', 1 from generate_series(1, {count})"""
        )
        await self.sql.execute("vacuum analyze procrastinate_jobs")

    async def backlog(self, count: int, *, due: bool) -> None:
        later = "null" if due else "now() + interval '1 day'"
        await self.by_hand(
            f"""insert into procrastinate_jobs (queue_name, task_name, scheduled_at)
            select 'default', 'nothing', {later} from generate_series(1, {count})"""
        )

    async def clear(self) -> None:
        await self.sql.execute(
            "truncate procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers"
        )
        await self.sql.execute("alter table procrastinate_jobs set (autovacuum_enabled = off)")
        await self.sql.execute("vacuum analyze procrastinate_jobs")

    async def zombie_is_refused(self) -> bool:
        await self.fill(1)
        first = await self.claim()
        await self._app.job_manager.retry_job(first)  # as the periodic task does for a stalled one
        second = await self.claim()
        if second is None or second.id != first.id:
            raise RuntimeError("procrastinate did not give the task to another worker.")
        with suppress(self._package.exceptions.ConnectorException):
            await self.finish(first)
        status = await self.sql.fetchval(
            "select status::text from procrastinate_jobs where id = $1", first.id
        )
        return status == "doing"


class PgQueuer(Contestant):
    """pgqueuer on asyncpg, the faster of its drivers, with the largest batch that its limit of ten allows."""

    name = "pgqueuer"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._package: Any = import_module("pgqueuer")
        self._ports: Any = import_module("pgqueuer.ports.repository")
        self._queries: Any = None
        self._me = uuid4()

    async def open(self) -> None:
        await super().open()
        self._queries = self._package.Queries.from_asyncpg_connection(self.sql)

    async def install(self) -> None:
        await self._queries.install()

    async def enqueue(self) -> None:
        await self._queries.enqueue("nothing", None)

    async def fill(self, count: int) -> None:
        for start in range(0, count, 1000):
            most = min(1000, count - start)
            await self._queries.enqueue(["nothing"] * most, [None] * most, [0] * most)

    async def work(self, handler: Handler) -> None:
        connection = await connect(self.url)
        try:
            queue = self._package.PgQueuer.from_asyncpg_connection(connection)

            async def handle(_job: Any) -> None:
                await handler()

            queue.entrypoint("nothing")(handle)
            # It wants at least twice the batch.
            await queue.run(batch_size=CONCURRENCY // 2, max_concurrent_tasks=CONCURRENCY)
        finally:
            await connection.close()

    async def claim(self) -> Any:
        return await self._claimed_by(self._me, timedelta(seconds=30))

    async def _claimed_by(self, worker: object, heartbeat_timeout: timedelta) -> Any:
        found = await self._queries.dequeue(
            batch_size=1,
            entrypoints={"nothing": self._ports.EntrypointExecutionParameter(concurrency_limit=0)},
            queue_manager_id=worker,
            global_concurrency_limit=None,
            heartbeat_timeout=heartbeat_timeout,
        )
        return found[0] if found else None

    async def finish(self, claimed: Any) -> None:
        await self._queries.log_jobs([(claimed, "successful", None)])

    async def history(self, count: int) -> None:
        await self.by_hand(
            f"""insert into pgqueuer_log (job_id, status, entrypoint, priority)
            select n, 'successful', 'nothing', 0 from generate_series(1, {count}) n"""
        )
        await self.sql.execute("vacuum analyze pgqueuer, pgqueuer_log")

    async def backlog(self, count: int, *, due: bool) -> None:
        later = "now()" if due else "now() + interval '1 day'"
        await self.by_hand(
            f"""insert into pgqueuer
                (priority, created, updated, heartbeat, execute_after, status, entrypoint)
            select 0, now(), now(), now(), {later}, 'queued', 'nothing' from generate_series(1, {count})"""
        )

    async def clear(self) -> None:
        await self.sql.execute("truncate pgqueuer, pgqueuer_log, pgqueuer_statistics")
        await self.sql.execute("alter table pgqueuer set (autovacuum_enabled = off)")
        await self.sql.execute("alter table pgqueuer_log set (autovacuum_enabled = off)")
        await self.sql.execute("vacuum analyze pgqueuer, pgqueuer_log")

    async def zombie_is_refused(self) -> bool:
        await self.fill(1)
        first = await self.claim()
        await self.sql.execute("update pgqueuer set heartbeat = now() - interval '1 hour'")
        await asyncio.sleep(0.01)
        second = await self._claimed_by(uuid4(), timedelta(seconds=30))
        if second is None or second.id != first.id:
            raise RuntimeError("pgqueuer did not give the task to another worker.")
        await self.finish(first)
        return bool(await self.sql.fetchval("select exists (select from pgqueuer where id = $1)", first.id))
