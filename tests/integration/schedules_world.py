"""Schedules of a person, and time that passes for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from pythonic_assistant.adapters.schedules.planning import plan_of
from pythonic_assistant.adapters.store.supabase_schedules import SupabaseSchedules
from tests.integration.attempt_world import World
from worker.schedules import ScheduleClock


async def add(world: World, **columns: Any) -> UUID:
    """A schedule, written by hand as in the dashboard."""
    row = {"user_id": world.person, "prompt": "Send the report", "cron": "0 8 * * *"} | columns
    marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    query = f"insert into public.schedules ({', '.join(row)}) values ({marks}) returning id"
    return await world.database.fetchval(query, *row.values())


async def row(world: World, schedule: UUID) -> asyncpg.Record:
    found = await world.database.fetchrow("select * from public.schedules where id = $1", schedule)
    assert found is not None
    return found


async def tasks(world: World, schedule: UUID) -> list[asyncpg.Record]:
    return await world.database.fetch(
        "select * from public.tasks where schedule_id = $1 order by id", schedule
    )


async def be_due(world: World, schedule: UUID, ago: timedelta) -> datetime:
    """As if time had passed since the schedule was planned; returns its due time."""
    moment = (datetime.now(UTC) - ago).replace(second=0, microsecond=0)
    await world.database.execute(
        "update public.schedules set next_at = $2, cron = $3, time_zone = 'UTC' where id = $1",
        schedule,
        moment,
        f"{moment.minute} {moment.hour} * * *",
    )
    # Changing its cron has made it one to be planned; it is set as a worker leaves it.
    await world.database.execute(
        """update public.schedules set next_at = $2, planned_from = $2::timestamptz - interval '1 day'
        where id = $1""",
        schedule,
        moment,
    )
    return moment


def clock(world: World) -> ScheduleClock:
    return ScheduleClock(SupabaseSchedules(world.client), plan_of)
