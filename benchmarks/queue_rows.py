"""What `bench_queue` measures; rounds of the queues alternate, so that all see the same machine."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from benchmarks.queue_contestant import Contestant
from benchmarks.queue_processes import SETTLE_SECONDS, worker_process
from benchmarks.queue_sql import connect

Values = dict[str, list[float]]
"""By contestant."""

CLAIMS_OF_A_ROUND = 25
WARM_UP_CLAIMS = 8
SHAPES = ("no history", "100k not due", "1M finished", "1M finished, 100k pending, old statistics")
OLD_SNAPSHOT = "old snapshot open"
LONGEST_RESTART_SECONDS = 60.0


async def latencies(contestants: Sequence[Contestant], tasks: int) -> Values:
    """Milliseconds from before a task is asked to the first line of its handler, in another process."""
    found: Values = {one.name: [] for one in contestants}
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(worker_process(c.name, c.url, "tell")) for c in contestants
        ]
        for number in range(tasks + 3):
            for contestant, worker in zip(contestants, workers, strict=True):
                await asyncio.sleep(0.06)
                began = time.monotonic()
                await contestant.enqueue()
                reached = await worker.says("at", 30)
                if number >= 3:  # the first ones fill caches
                    found[contestant.name].append((reached["at"] - began) * 1000)
        await asyncio.sleep(SETTLE_SECONDS)  # the last end may be on its way yet
    return found


async def throughput(contestants: Sequence[Contestant], tasks: int, rounds: int) -> Values:
    """No-op tasks per second, from the first handler to the last, of a worker with ten at once."""
    found: Values = {one.name: [] for one in contestants}
    for number in range(rounds + 1):
        for contestant in contestants:
            most = (tasks if number else tasks // 4) // contestant.slow
            await contestant.fill(most)
            async with worker_process(contestant.name, contestant.url, "count") as worker:
                told = await worker.says("tasks", 120)
            if told["tasks"] != most:
                raise RuntimeError(f"{contestant.name} did {told['tasks']} of {most} tasks")
            if number:
                found[contestant.name].append((most - 1) / (told["last"] - told["first"]))
    return found


async def claims(contestants: Sequence[Contestant], rounds: int) -> dict[str, Values]:
    """Milliseconds of one claim, by shape of the tables."""
    found: dict[str, Values] = {}
    for shape in SHAPES:
        for one in contestants:
            if shape != SHAPES[-1]:
                await one.clear()
            if shape == SHAPES[1]:
                await one.backlog(100_000, due=False)
            elif shape == SHAPES[2]:
                await one.history(1_000_000)
            elif shape == SHAPES[3]:
                await one.backlog(100_000, due=True)
        found[shape] = await _claims(contestants, rounds)
    for one in contestants:
        await one.clear()
    return found


async def _claims(contestants: Sequence[Contestant], rounds: int) -> Values:
    found: Values = {one.name: [] for one in contestants}
    for number in range(rounds):
        for contestant in contestants:
            extra = 0 if number else WARM_UP_CLAIMS
            await contestant.fill(CLAIMS_OF_A_ROUND + extra)
            for claim in range(CLAIMS_OF_A_ROUND + extra):
                took, claimed = await contestant.claim_milliseconds()
                await contestant.finish(claimed)
                if claim >= extra:
                    found[contestant.name].append(took)
    return found


async def claims_under_snapshot(contestants: Sequence[Contestant], tasks: int, rounds: int) -> Values:
    """Milliseconds of one claim, after so many tasks were done while a transaction stays open."""
    async with AsyncExitStack() as stack:
        for contestant in contestants:
            await contestant.clear()
            connection: Any = await connect(contestant.url)
            stack.push_async_callback(connection.close)
            await connection.execute("begin isolation level repeatable read; select count(*) from pg_class")
            await contestant.fill(tasks)
            async with worker_process(contestant.name, contestant.url, "count") as worker:
                await worker.says("tasks", 180)
        return await _claims(contestants, rounds)


async def restarts(contestants: Sequence[Contestant]) -> dict[str, float]:
    """Seconds from the kill -9 of a worker to the start of its task elsewhere; infinite: not in a minute."""

    async def one(contestant: Contestant) -> float:
        async with worker_process(contestant.name, contestant.url, "hang") as first:
            await contestant.enqueue()
            await first.says("at", 30)
            async with worker_process(contestant.name, contestant.url, "rescue") as second:
                await asyncio.sleep(3)
                began = time.monotonic()
                first.process.kill()
                try:
                    return (await second.says("at", LONGEST_RESTART_SECONDS))["at"] - began
                except TimeoutError:
                    return float("inf")

    # At the same time: they wait, and wait for long.
    times = await asyncio.gather(*(one(contestant) for contestant in contestants))
    return {contestant.name: seconds for contestant, seconds in zip(contestants, times, strict=True)}


async def idle_statements(contestants: Sequence[Contestant], log: Path, seconds: float) -> dict[str, float]:
    """Statements per second that an idle worker sends, counted by the server."""
    before: set[int] = set()
    mine: dict[str, set[str]] = {}
    async with AsyncExitStack() as stack:
        for one in contestants:
            before |= {row["pid"] for row in await one.sql.fetch("select pid from pg_stat_activity")}
            await one.sql.execute(
                f"alter role postgres in database {_database(one)} set log_min_duration_statement = 0"
            )
        for one in contestants:
            await stack.enter_async_context(worker_process(one.name, one.url, "tell"))
        await asyncio.sleep(12)  # what a worker does at its start is over
        start = log.stat().st_size
        await asyncio.sleep(seconds)
        for one in contestants:
            rows = await one.sql.fetch(
                """select pid from pg_stat_activity
                where datname = current_database() and pid <> all($1::integer[])""",
                list(before),
            )
            mine[one.name] = {str(row["pid"]) for row in rows}
    for one in contestants:
        await one.sql.execute(
            f"alter role postgres in database {_database(one)} reset log_min_duration_statement"
        )
    with log.open("rb") as file:
        file.seek(start)
        said = file.read().decode("utf-8", "replace")
    pids = re.findall(
        r"^\S+ \S+ \S+ \[(\d+)\] LOG:  duration: \S+ ms  (?:statement|execute)", said, re.MULTILINE
    )
    return {one.name: sum(pid in mine[one.name] for pid in pids) / seconds for one in contestants}


def _database(contestant: Contestant) -> str:
    return "postgres" if contestant.name == "ours" else contestant.name


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)
