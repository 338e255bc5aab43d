"""Schedules: each due time makes exactly one task, however many workers look, and whatever is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from pythonic_assistant.adapters.schedules.planning import plan_of
from pythonic_assistant.adapters.store.naming import BUCKET
from pythonic_assistant.adapters.store.supabase_removals import SupabaseRemovals
from pythonic_assistant.adapters.store.supabase_schedules import SupabaseSchedules
from pythonic_assistant.domain.schedule import ScheduleLook, SchedulePlan
from tests.embedded_fixtures import RunningSupabase
from tests.integration.attempt_world import World
from tests.integration.schedules_world import add, be_due, clock, row, tasks
from worker.schedules import ScheduleClock
from worker.sweeping import sweep

pytestmark = pytest.mark.timeout(60)


async def test_a_row_written_by_hand_is_planned_fires_and_is_planned_again(world: World) -> None:
    schedule = await add(
        world, time_zone="Europe/Berlin", labels=["gpu"], hosts=["api.github.com"], priority=3
    )
    seconds = await clock(world).fire_all()
    planned = await row(world, schedule)
    assert planned["next_at"] > datetime.now(UTC)
    assert seconds is not None and 0 < seconds <= (planned["next_at"] - datetime.now(UTC)).total_seconds() + 5
    assert await tasks(world, schedule) == []
    due = await be_due(world, schedule, timedelta(minutes=2))
    await clock(world).fire_all()
    await clock(world).fire_all()
    (task,) = await tasks(world, schedule)
    assert (task["due_at"], task["prompt"], task["user_id"]) == (due, "Send the report", world.person)
    assert (task["labels"], task["hosts"], task["priority"]) == (["gpu"], ["api.github.com"], 3)
    fired = await row(world, schedule)
    assert (fired["last_at"], fired["last_task_id"], fired["skipped"]) == (due, task["id"], 0)
    assert fired["next_at"] == due + timedelta(days=1)


async def test_of_many_workers_with_the_same_plan_one_makes_the_task(
    world: World, embedded_supabase: RunningSupabase
) -> None:
    schedules = [await add(world) for _ in range(4)]
    await clock(world).fire_all()
    for schedule in schedules:
        await be_due(world, schedule, timedelta(minutes=1))
    connections = [await asyncpg.connect(embedded_supabase.database_url) for _ in range(5)]
    try:
        look = await SupabaseSchedules(world.client).fire(())
        plans = json.dumps([_as_row(plan_of(due, look.now)) for due in look.due])
        answers = await asyncio.gather(
            *(each.fetchval("select public.fire_schedules($1)", plans) for each in connections)
        )
        outcomes = [done["outcome"] for answer in answers for done in json.loads(answer)["done"]]
        assert set(outcomes) <= {"fired", "busy", "stale"}
        # Whole workers on top of it, which look by themselves.
        await asyncio.gather(*(clock(world).fire_all() for _ in range(3)))
        await asyncio.sleep(0.6)
        await clock(world).fire_all()  # what was busy before
        for schedule in schedules:
            assert len(await tasks(world, schedule)) == 1
    finally:
        for each in connections:
            await each.close()


async def test_a_worker_that_is_killed_in_between_leaves_the_run_to_another(
    world: World, embedded_supabase: RunningSupabase
) -> None:
    schedule = await add(world)
    await clock(world).fire_all()
    await be_due(world, schedule, timedelta(minutes=1))
    look = await SupabaseSchedules(world.client).fire(())
    plans = json.dumps([_as_row(plan_of(due, look.now)) for due in look.due])
    killed = await asyncpg.connect(embedded_supabase.database_url)
    await killed.execute("begin")
    answer = json.loads(await killed.fetchval("select public.fire_schedules($1)", plans))
    assert [done["outcome"] for done in answer["done"]] == ["fired"]
    # Its transaction is open: nobody waits for it, and nobody fires a second time.
    async with asyncio.timeout(10):
        answer = json.loads(await world.database.fetchval("select public.fire_schedules($1)", plans))
    assert [done["outcome"] for done in answer["done"]] == ["busy"]
    assert answer["next_due_seconds"] <= 0.5
    pid = killed.get_server_pid()
    await world.database.execute("select pg_terminate_backend($1)", pid)
    killed.terminate()
    while await world.database.fetchval("select count(*) from pg_stat_activity where pid = $1", pid):
        await asyncio.sleep(0.02)
    assert await tasks(world, schedule) == []
    await clock(world).fire_all()
    assert len(await tasks(world, schedule)) == 1


@pytest.mark.parametrize(("missed", "made"), [("skip", 0), ("catch_up_once", 1)])
async def test_runs_that_nobody_could_start(world: World, missed: str, made: int) -> None:
    schedule = await add(world, missed=missed)
    await clock(world).fire_all()
    first = await be_due(world, schedule, timedelta(days=3, hours=1))
    await clock(world).fire_all()
    made_now = await tasks(world, schedule)
    assert len(made_now) == made
    after = await row(world, schedule)
    assert after["next_at"] == first + timedelta(days=4)
    latest = first + timedelta(days=3)
    if made:
        assert made_now[0]["due_at"] == latest
        assert "makes up for 4 runs" in made_now[0]["prompt"]
        assert f"{first.day} " in made_now[0]["prompt"]
        assert after["skipped"] == 0
    else:
        assert (after["skipped"], after["skipped_at"], after["last_at"]) == (4, latest, None)


async def test_one_that_is_a_little_late_was_not_missed(world: World) -> None:
    schedule = await add(world, missed="skip")
    await clock(world).fire_all()
    due = await be_due(world, schedule, timedelta(minutes=3))
    await clock(world).fire_all()
    (task,) = await tasks(world, schedule)
    assert (task["due_at"], task["prompt"]) == (due, "Send the report")


async def test_what_comes_before_the_first_worker_is_not_lost(world: World) -> None:
    moment = datetime.now(UTC).replace(second=0, microsecond=0)
    schedule = await add(world, cron=f"{moment.minute} {moment.hour} * * *")
    await world.database.execute(
        "update public.schedules set planned_from = $2 where id = $1", schedule, moment - timedelta(minutes=1)
    )
    await clock(world).fire_all()
    assert [task["due_at"] for task in await tasks(world, schedule)] == [moment]


async def test_while_paused_nothing_comes_and_nothing_is_made_up_for(world: World) -> None:
    schedule = await add(world, missed="catch_up_once", cron="* * * * *")
    await clock(world).fire_all()
    await world.database.execute("update public.schedules set paused_at = now() where id = $1", schedule)
    paused = await row(world, schedule)
    assert paused["next_at"] is None
    await world.database.execute(
        "update public.schedules set planned_from = now() - interval '1 hour' where id = $1", schedule
    )
    await clock(world).fire_all()
    assert await tasks(world, schedule) == []
    await world.database.execute("update public.schedules set paused_at = null where id = $1", schedule)
    await clock(world).fire_all()
    resumed = await row(world, schedule)
    assert resumed["next_at"] > datetime.now(UTC)
    assert await tasks(world, schedule) == []


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"cron": "61 * * * *"}, "its minute is wrong"),
        ({"cron": "every day"}, "no cron expression of five fields"),
        ({"cron": "0 0 30 2 *"}, "no cron expression: its day-of-month"),
        ({"time_zone": "Europe/Atlantis"}, "no time zone"),
        ({"time_zone": "../../etc/passwd"}, "no time zone"),
    ],
    ids=str,
)
async def test_a_row_that_cannot_be_planned_says_why_until_it_is_changed(
    world: World, columns: dict[str, str], sentence: str
) -> None:
    schedule = await add(world, **columns)
    await clock(world).fire_all()
    assert sentence in (await row(world, schedule))["problem"]
    look = await SupabaseSchedules(world.client).fire(())
    assert str(schedule) not in {due.id for due in look.due}, "it is not looked at again and again"
    await world.database.execute(
        "update public.schedules set cron = '0 8 * * *', time_zone = 'UTC' where id = $1", schedule
    )
    await clock(world).fire_all()
    mended = await row(world, schedule)
    assert mended["problem"] is None
    assert mended["next_at"] is not None


async def test_a_task_that_is_refused_is_told_and_stops_no_other_schedule(world: World) -> None:
    bad, good = await add(world), await add(world)
    await clock(world).fire_all()
    path = f"{world.person}/../x"
    await world.database.execute(
        "update public.schedules set inputs = $2 where id = $1",
        bad,
        json.dumps([{"name": "x", "storage_path": path}]),
    )
    for schedule in (bad, good):
        await be_due(world, schedule, timedelta(minutes=1))
    await clock(world).fire_all()
    assert "Each of inputs needs a name" in (await row(world, bad))["problem"]
    assert await tasks(world, bad) == []
    assert len(await tasks(world, good)) == 1


async def test_a_plan_for_other_times_than_it_has_now_is_refused(world: World) -> None:
    schedule = await add(world)
    schedules = SupabaseSchedules(world.client)
    look = await schedules.fire(())
    old = tuple(plan_of(due, look.now) for due in look.due)
    await world.database.execute("update public.schedules set cron = '0 9 * * *' where id = $1", schedule)
    look = await schedules.fire(old)
    assert dict(look.outcomes)[str(schedule)] == "stale"
    assert str(schedule) in {due.id for due in look.due}
    await world.database.execute("delete from public.schedules where id = $1", schedule)
    look = await schedules.fire(old)
    assert dict(look.outcomes)[str(schedule)] == "gone"


async def test_a_thread_that_goes_does_not_take_the_schedule_with_it(world: World) -> None:
    thread = await world.database.fetchval(
        "insert into public.threads (user_id, title) values ($1, 'T') returning id", world.person
    )
    schedule = await add(world, thread_id=thread)
    await clock(world).fire_all()
    await be_due(world, schedule, timedelta(minutes=1))
    await clock(world).fire_all()
    (task,) = await tasks(world, schedule)
    assert task["thread_id"] == thread
    await world.database.execute("delete from public.threads where id = $1", thread)
    kept = await row(world, schedule)
    assert (kept["thread_id"], kept["problem"]) == (None, None)
    assert kept["next_at"] is not None


async def test_a_thread_that_somebody_deletes_just_now_is_waited_for_by_nobody(
    world: World, embedded_supabase: RunningSupabase
) -> None:
    thread = await world.database.fetchval(
        "insert into public.threads (user_id, title) values ($1, 'T') returning id", world.person
    )
    schedule = await add(world, thread_id=thread)
    await clock(world).fire_all()
    await be_due(world, schedule, timedelta(minutes=1))
    other = await asyncpg.connect(embedded_supabase.database_url)
    try:
        async with other.transaction():
            await other.execute("delete from public.threads where id = $1", thread)
            async with asyncio.timeout(5):
                await clock(world).fire_all()
            assert await tasks(world, schedule) == []
    finally:
        await other.close()
    await clock(world).fire_all()
    (task,) = await tasks(world, schedule)
    assert task["thread_id"] not in {None, thread}


async def test_files_of_a_schedule_outlive_its_tasks_and_go_with_it(world: World) -> None:
    path = f"{world.person}/uploads/{uuid4()}/orders.csv"
    await world.client.storage.from_(BUCKET).upload(path, b"a\n", {"content-type": "text/csv"})
    schedule = await add(world, inputs=json.dumps([{"name": "orders.csv", "storage_path": path}]))
    await clock(world).fire_all()
    await be_due(world, schedule, timedelta(minutes=1))
    await clock(world).fire_all()
    assert len(await tasks(world, schedule)) == 1
    for table, column, kept in (("tasks", "schedule_id", True), ("schedules", "id", False)):
        await world.database.execute(f"delete from public.{table} where {column} = $1", schedule)
        await world.database.execute("update public.file_removals set due_at = now()")
        await sweep(SupabaseRemovals(world.client))
        assert (path in await world.stored()) is kept


class Counted:
    """Schedules that count how often they were asked."""

    def __init__(self, inner: SupabaseSchedules) -> None:
        self.inner = inner
        self.calls = 0

    async def fire(self, plans: Sequence[SchedulePlan]) -> ScheduleLook:
        self.calls += 1
        return await self.inner.fire(plans)


async def test_an_idle_clock_asks_once_and_wakes_for_a_hint(world: World) -> None:
    await clock(world).fire_all()
    counted = Counted(SupabaseSchedules(world.client))
    ticking = ScheduleClock(counted, plan_of)
    keeping = asyncio.create_task(ticking.keep())
    try:
        await asyncio.sleep(1.5)
        assert counted.calls == 1
        schedule = await add(world)
        ticking.wake()
        async with asyncio.timeout(10):
            while (await row(world, schedule))["next_at"] is None:
                await asyncio.sleep(0.05)
        moment = datetime.now(UTC) + timedelta(seconds=1)
        await world.database.execute(
            "update public.schedules set next_at = $2 where id = $1", schedule, moment
        )
        ticking.wake()
        async with asyncio.timeout(20):
            while not await tasks(world, schedule):
                await asyncio.sleep(0.05)
    finally:
        keeping.cancel()
    (task,) = await tasks(world, schedule)
    assert task["created_at"] >= moment


async def test_a_worker_process_plans_what_it_is_told_of_and_fires_it(
    world: World, embedded_supabase: RunningSupabase, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "worker"],
        cwd=Path(__file__).parents[2],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONIC_HOME": str(tmp_path / "home"),
            "PYTHONIC_API_PORT": str(port),
            "SUPABASE_URL": embedded_supabase.url,
            "SUPABASE_SECRET_KEY": embedded_supabase.secret_key,
        },
        stderr=subprocess.DEVNULL,
    )
    try:
        first = await add(world)
        async with asyncio.timeout(40):
            while (await row(world, first))["next_at"] is None:
                assert process.poll() is None
                await asyncio.sleep(0.1)
        # It sleeps for a minute now, so what follows is done because it is woken.
        schedule = await add(world)
        async with asyncio.timeout(30):
            while (await row(world, schedule))["next_at"] is None:
                await asyncio.sleep(0.1)
        await world.database.execute(
            "update public.schedules set next_at = now() + interval '1 second' where id = $1", schedule
        )
        await add(world)  # wakes it: to set next_at by hand tells nobody
        async with asyncio.timeout(30):
            while not await tasks(world, schedule):
                await asyncio.sleep(0.1)
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 30)
    assert len(await tasks(world, schedule)) == 1


def _as_row(plan: SchedulePlan) -> dict[str, Any]:
    """A plan as the adapter sends it, for connections that are not its own."""
    assert plan.next_at is not None
    return {
        "id": plan.due.id,
        "planned_from": plan.due.stamp,
        "was": plan.due.next_at.isoformat() if plan.due.next_at else None,
        "next_at": plan.next_at.isoformat(),
        "due_at": plan.due_at.isoformat() if plan.due_at else None,
        "note": plan.note,
    }
