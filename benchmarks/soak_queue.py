"""Many short tasks through one worker process: does it grow, do the tables, does vacuum keep up?

`make soak`, or `make soak TASKS=5000`. Tasks come in waves of 400 people with five tasks each.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psutil

from benchmarks.queue_sql import connect
from benchmarks.report import Figure, against_goal, report
from tests.embedded_fixtures import RunningSupabase, running_supabase

TASKS = 20_000
WARM_UP = 2_000
WAVE = 2_000
PEOPLE = 400
TABLES = ("tasks", "threads", "messages", "task_events")
GROWTH_PERCENT = 5.0
DEAD_ROWS = 5_000
"""After vacuum's turn: it comes at 2,000 dead rows of tasks, once a minute."""
VACUUM_SECONDS = 100.0
WAVE_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """How things are after so many tasks.

    Attributes:
        resident: MiB of the worker process.
        sizes: bytes of table and of its indexes, and dead rows, by table.
    """

    tasks: int
    seconds: float
    resident: float
    sizes: dict[str, tuple[int, int, int]]


async def _sizes(sql: Any) -> dict[str, tuple[int, int, int]]:
    await sql.execute("select pg_stat_clear_snapshot()")
    rows = await sql.fetch(
        """select relname, pg_table_size(relid) as bytes, pg_indexes_size(relid) as indexes,
            n_dead_tup as dead
        from pg_stat_user_tables where schemaname = 'public' and relname = any($1::text[])""",
        TABLES,
    )
    return {row["relname"]: (row["bytes"], row["indexes"], row["dead"]) for row in rows}


async def soak(supabase: RunningSupabase, count: int) -> list[Sample]:
    """Let a worker do so many tasks; returns a sample for each wave, the last one after vacuum's turn."""
    sql: Any = await connect(supabase.database_url)
    people = [uuid4() for _ in range(PEOPLE)]
    await sql.execute(
        "insert into auth.users (id, email) select n, n || '@example.com' from unnest($1::uuid[]) n", people
    )
    worker = _start_worker(supabase)
    try:
        began = time.monotonic()
        samples: list[Sample] = []
        for done in range(WAVE, count + WAVE, WAVE):
            await sql.execute(
                """insert into public.tasks (user_id, prompt) select n, 'do nothing'
                from unnest($1::uuid[]) n, generate_series(1, $2::integer)""",
                people,
                WAVE // PEOPLE,
            )
            await _until_done(sql, worker, WAVE_SECONDS)
            samples.append(await _sample(sql, worker, done, began))
            _show(samples[-1])
        deadline = time.monotonic() + VACUUM_SECONDS
        while time.monotonic() < deadline and (await _sizes(sql))["tasks"][2] > DEAD_ROWS:
            await asyncio.sleep(2)
        samples.append(await _sample(sql, worker, samples[-1].tasks, began))
        _show(samples[-1])
        return samples
    finally:
        worker.terminate()
        worker.wait(timeout=60)
        await sql.close()


def _start_worker(supabase: RunningSupabase) -> subprocess.Popen[bytes]:
    environment = dict(
        os.environ,
        SUPABASE_URL=supabase.url,
        SUPABASE_SECRET_KEY=supabase.secret_key,
        SUPABASE_DB_URL=supabase.database_url,
        PYTHONIC_HOME=str(supabase.state / "soak"),
        PYTHONIC_API_PORT=str(_free_port()),
        PYTHONIC_SLOTS="10",
    )
    log = (supabase.state / "soak.log").open("wb")
    return subprocess.Popen([sys.executable, "-m", "benchmarks.soak_worker"], env=environment, stderr=log)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


async def _until_done(sql: Any, worker: subprocess.Popen[bytes], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while await sql.fetchval(
        "select exists (select from public.tasks where state in ('held', 'queued', 'running', 'scheduled'))"
    ):
        if worker.poll() is not None:
            raise SystemExit(f"The worker ended with {worker.returncode}.")
        if time.monotonic() > deadline:
            raise SystemExit(f"A wave was not done within {seconds:g} s.")
        await asyncio.sleep(0.2)


async def _sample(sql: Any, worker: subprocess.Popen[bytes], tasks: int, began: float) -> Sample:
    return Sample(
        tasks=tasks,
        seconds=time.monotonic() - began,
        resident=psutil.Process(worker.pid).memory_info().rss / (1 << 20),
        sizes=await _sizes(sql),
    )


def _show(sample: Sample) -> None:
    table, indexes, dead = sample.sizes["tasks"]
    print(
        f"{sample.tasks:>7} tasks {sample.seconds:>6.0f} s   worker {sample.resident:6.1f} MiB   "
        f"tasks {table / sample.tasks:5.0f} + {indexes / sample.tasks:4.0f} bytes each, {dead:>6} dead   "
        f"all dead {sum(d for _, _, d in sample.sizes.values()):>6}",
        flush=True,
    )


def figures_of(samples: list[Sample]) -> list[Figure]:
    """What the samples say."""
    settled = [sample for sample in samples if sample.tasks >= WARM_UP]
    first, last = settled[0], samples[-1]
    drift = max(abs(sample.resident / first.resident - 1) for sample in settled) * 100
    worked = samples[-2]
    found = [
        Figure(name="tasks done", value=last.tasks, unit=""),
        Figure(name="tasks per second", value=round(worked.tasks / worked.seconds), unit="/s"),
        Figure(name="worker's memory at the end", value=round(last.resident, 1), unit="MiB"),
        against_goal(f"worker's memory moved since task {WARM_UP:,}", max(drift, 0.01), "%", GROWTH_PERCENT),
        against_goal("dead rows of tasks after vacuum", max(last.sizes["tasks"][2], 1), "", DEAD_ROWS),
    ]
    for table in TABLES:
        size, indexes, _ = last.sizes[table]
        found.append(
            Figure(
                name=f"{table}: table and indexes per task",
                value=round((size + indexes) / last.tasks),
                unit="B",
            )
        )
    return found


async def main(count: int) -> None:
    """Measure, print, write."""
    with running_supabase() as supabase:
        report("soak", figures_of(await soak(supabase, count)))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else TASKS))
