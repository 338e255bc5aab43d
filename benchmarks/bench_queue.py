"""The task queue beside two others for Python, on one PostgreSQL: the embedded one, with all around it.

`make bench-queue`, or `make bench-queue ROWS="throughput claims"`: rows are latency, throughput, claims,
snapshot, idle, restart and zombie. Each queue has a database of its own; the peers are those of
`requirements-bench.in`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.queue_contestant import Contestant
from benchmarks.queue_ours import Ours
from benchmarks.queue_peers import PgQueuer, Procrastinate
from benchmarks.queue_rows import (
    OLD_SNAPSHOT,
    SHAPES,
    claims,
    claims_under_snapshot,
    idle_statements,
    latencies,
    median,
    restarts,
    throughput,
)
from benchmarks.queue_sql import connect
from benchmarks.report import Figure, against_goal, percentile, report
from tests.embedded_fixtures import RunningSupabase, running_supabase

ROWS = ("latency", "throughput", "claims", "snapshot", "idle", "restart", "zombie")
TIMES_AS_FAST = {"pgqueuer": 2.0, "procrastinate": 10.0}
"""The goals of throughput."""
HISTORY_COSTS = 1.3
"""The goal of a claim: at most so many times that of an empty table."""


@asynccontextmanager
async def open_contestants(supabase: RunningSupabase) -> AsyncGenerator[list[Contestant]]:
    """Ours first, then the peers."""
    made: list[Contestant] = [Ours(supabase.database_url)]
    admin = await connect(supabase.database_url)
    for kind in (PgQueuer, Procrastinate):
        await admin.execute(f"create database {kind.name}")
        made.append(kind(supabase.database_url.replace("/postgres?", f"/{kind.name}?")))
    await admin.close()
    try:
        for contestant in made:
            await contestant.open()
            await contestant.install()
        yield made
    finally:
        for contestant in made:
            await contestant.close()


def beside(
    name: str, unit: str, values: Mapping[str, float], *, more_is_better: bool = False
) -> list[Figure]:
    """One figure for each peer; a ratio above 1 says how many times better ours is."""
    mine = values["ours"]
    found: list[Figure] = []
    for peer, theirs in values.items():
        if peer == "ours":
            continue
        better, worse = (mine, theirs) if more_is_better else (theirs, mine)
        goal = round(TIMES_AS_FAST[peer] * theirs) if more_is_better else None
        found.append(
            Figure(
                name=name,
                value=round(mine, 3),
                unit=unit,
                peer=f"{peer}: {theirs:.3g} {unit}",
                ratio=round(better / worse, 2) if worse else None,
                goal=goal,
            )
        )
    return found


async def measure(
    contestants: Sequence[Contestant], log: Path, rows: Sequence[str], found: list[Figure]
) -> None:
    """Add the figures of these rows, each as soon as it is known."""
    if "latency" in rows:
        times = await latencies(contestants, 80)
        for percent in (50, 95):
            values = {name: percentile(all_of, percent) for name, all_of in times.items()}
            found += beside(f"enqueue → handler p{percent}", "ms", values)
    if "throughput" in rows:
        speeds = await throughput(contestants, 2000, 5)
        values = {name: median(all_of) for name, all_of in speeds.items()}
        found += beside("no-op tasks, ten at once", "/s", values, more_is_better=True)
    if "claims" in rows:
        found += _claim_figures(await claims(contestants, 6))
    if "snapshot" in rows:
        times = await claims_under_snapshot(contestants, 5000, 4)
        found += beside(
            f"claim, {OLD_SNAPSHOT}, 5,000 tasks done", "ms", {name: median(t) for name, t in times.items()}
        )
    if "idle" in rows:
        found += beside("idle worker, statements", "/s", await idle_statements(contestants, log, 30))
    if "restart" in rows:
        found += beside("kill -9 → task starts elsewhere", "s", await restarts(contestants))
    if "zombie" in rows:
        for contestant in contestants:
            await contestant.clear()  # tasks of workers that were killed
            refused = await contestant.zombie_is_refused()
            found.append(
                Figure(name=f"{contestant.name}: finish of a zombie refused", value=int(refused), unit="")
            )


def _claim_figures(by_shape: Mapping[str, Mapping[str, list[float]]]) -> list[Figure]:
    found: list[Figure] = []
    # The shapes come one after the other: the quickest tenth is least disturbed by what else runs.
    empty = percentile(by_shape[SHAPES[0]]["ours"], 10)
    for shape, times in by_shape.items():
        values = {name: median(all_of) for name, all_of in times.items()}
        found += beside(f"claim, {shape}", "ms", values)
        if shape != SHAPES[0]:
            undisturbed = percentile(times["ours"], 10)
            found.append(
                against_goal(f"claim p10, {shape}", undisturbed, "ms", round(empty * HISTORY_COSTS, 3))
            )
    return found


async def main(rows: Sequence[str]) -> None:
    """Measure, print, write."""
    unknown = set(rows) - set(ROWS)
    if unknown:
        raise SystemExit(f"There is no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}.")
    with running_supabase() as supabase:
        (log,) = supabase.state.rglob("postgres*.log")
        async with open_contestants(supabase) as contestants:
            found: list[Figure] = []
            try:
                await measure(contestants, log, rows or ROWS, found)
            finally:
                report("queue", found)  # of a run that was interrupted, what there is


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
