"""The engine on a real database: turns, hints, stops, and a worker that is cut off in mid-task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from pythonic_assistant.adapters.store.postgres_listener import PostgresListener
from pythonic_assistant.adapters.store.postgres_queue import PostgresQueue
from pythonic_assistant.adapters.store.supabase_files import SupabaseFiles
from pythonic_assistant.adapters.store.supabase_records import SupabaseRecords
from pythonic_assistant.adapters.store.supabase_secrets import SupabaseSecrets
from pythonic_assistant.domain.task import ClaimedTask
from pythonic_assistant.ports import Endings
from tests.contract.queue_world import World, open_world
from tests.embedded_fixtures import RunningSupabase
from tests.integration.attempt_world import KEY, Broker, Runners
from tests.servers.between import network
from worker.access import Means
from worker.attempt import Attempt
from worker.config import WorkerConfig
from worker.engine import Engine

pytestmark = pytest.mark.timeout(90)

QUICK = 'succeed("quick")\n'


@pytest.fixture
async def world(embedded_supabase: RunningSupabase) -> AsyncIterator[World]:
    async with open_world(embedded_supabase) as made:
        yield made


@dataclass
class Working:
    engine: Engine
    queue: PostgresQueue


@asynccontextmanager
async def working(
    world: World, folder: Path, program: str, *, url: str | None = None, **settings: Any
) -> AsyncIterator[Working]:
    """An engine with its listener, drained at the end."""
    url = url or world.supabase.database_url
    config = WorkerConfig(supabase_url="", supabase_key="", home=folder, **settings)
    queue = PostgresQueue(
        url, worker=uuid4(), lease_seconds=config.lease_seconds, queue=world.name, labels=config.labels
    )
    folder.mkdir()
    runners = Runners(program, folder)
    started = datetime.now(UTC).isoformat()

    def attempt_of(task: ClaimedTask, endings: Endings) -> Attempt:
        return Attempt(
            task,
            config=config,
            queue=endings,
            journal=queue,
            files=SupabaseFiles(world.client),
            runners=runners,  # pyright: ignore[reportArgumentType]
            sandbox_socket=folder / "none.sock",
            folder=folder,
            means=Means(store=SupabaseSecrets(world.client), key=KEY, broker=Broker()),
            records=SupabaseRecords(world.client),
            effects=queue,
        )

    engine = Engine(
        config=config,
        queue=queue,
        store=queue,
        attempt_of=attempt_of,
        facts=lambda: {
            "host": "test", "adapter": "direct", "slots": config.slots, "running": len(engine.running),
            "started_at": started,
        },
    )  # fmt: skip

    def up() -> None:
        engine.condition.hints = True
        engine.back()

    def down() -> None:
        engine.condition.hints = False

    listener = PostgresListener(
        url,
        worker=queue.worker,
        queue=world.name,
        on_queued=engine.wake,
        on_cancel=engine.cancel,
        on_up=up,
        on_down=down,
    )
    listening = asyncio.create_task(listener.keep())
    serving = asyncio.create_task(engine.serve())
    try:
        yield Working(engine, queue)
        engine.drain()
        async with asyncio.timeout(30):
            await serving
    finally:
        for task in (serving, listening):
            task.cancel()
            await asyncio.wait({task})
        await queue.close()
        await world.database.execute("delete from public.workers where id = $1", queue.worker)


async def until_state(world: World, task: int, *states: str, seconds: float = 30) -> Any:
    async with asyncio.timeout(seconds):
        while (row := await world.task(task))["state"] not in states:
            await asyncio.sleep(0.02)
    return row


async def test_an_end_and_the_next_claim_are_one_turn(world: World, tmp_path: Path) -> None:
    person = await world.person()
    tasks = [await world.add(person) for _ in range(4)]
    async with working(world, tmp_path / "a", QUICK, slots=1):
        rows = [await until_state(world, task, "succeeded") for task in tasks]
    for before, after in pairwise(rows):
        assert before["finished_at"] == after["started_at"], "in one transaction"
    assert {row["attempt"] for row in rows} == {1}


async def test_a_hint_starts_a_task_and_stops_one(world: World, tmp_path: Path) -> None:
    person = await world.person()
    async with working(world, tmp_path / "a", "time.sleep(60)\n", poll_seconds=60, beat_seconds=60) as made:
        async with asyncio.timeout(10):
            while not made.engine.condition.hints:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        # Several commits at the same moment: one tells for all.
        tasks = await asyncio.gather(*(_added_apart(world, person) for _ in range(4)))
        for task in tasks:
            await until_state(world, task, "running", seconds=10)
        await world.database.execute("select pythonic.cancel_task($1)", tasks[0])
        await until_state(world, tasks[0], "cancelled", seconds=10)
    rows = [await world.task(task) for task in tasks[1:]]
    assert {(row["state"], row["failures"]) for row in rows} == {("queued", 0)}, "given back"


async def _added_apart(world: World, person: Any) -> int:
    connection = await asyncpg.connect(world.supabase.database_url)
    try:
        return await connection.fetchval(
            "insert into public.tasks (user_id, prompt, queue) values ($1, 'do it', $2) returning id",
            person,
            world.name,
        )
    finally:
        await connection.close()


async def test_a_worker_tells_what_it_is_and_that_it_stops(world: World, tmp_path: Path) -> None:
    async with working(world, tmp_path / "a", QUICK, slots=3, seen_seconds=0.2, poll_seconds=0.1) as made:

        async def seen() -> Any:
            return await world.database.fetchrow(
                "select * from public.workers where id = $1", made.queue.worker
            )

        async with asyncio.timeout(10):
            while (row := await seen()) is None:
                await asyncio.sleep(0.02)
            first = row["seen_at"]
            while (await seen())["seen_at"] == first:
                await asyncio.sleep(0.02)
        assert (row["host"], row["slots"], row["adapter"], row["stopped_at"]) == ("test", 3, "direct", None)
        made.engine.drain()
        async with asyncio.timeout(10):
            while (await seen())["stopped_at"] is None:
                await asyncio.sleep(0.02)


REFUSED = """
emit("noted", text="first")
succeed("an answer that the database refuses \\0" if request["prompt"] == "bad" else "fine")
"""


async def test_what_the_database_refuses_of_one_task_costs_no_other(world: World, tmp_path: Path) -> None:
    person = await world.person()
    bad = await world.add(person, prompt="bad", max_failures=1)
    good = [await world.add(person) for _ in range(3)]
    async with working(world, tmp_path / "a", REFUSED, slots=4):
        row = await until_state(world, bad, "failed")
        assert "The answer could not be stored" in row["error"]
        for task in good:
            assert (await until_state(world, task, "succeeded"))["answer"] == "fine"


SLOW = """
note("begun")
time.sleep(4)
note("late")
succeed("slow")
"""


async def test_a_worker_that_is_cut_off_says_so_and_its_late_writes_are_refused(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    person = await world.person()
    lease = {"lease_seconds": 2.0, "beat_seconds": 0.4, "poll_seconds": 0.3}
    async with network(world.supabase.database_url) as between:
        async with working(world, tmp_path / "a", SLOW, url=between.url, **lease) as cut:
            task = await world.add(person)
            await until_state(world, task, "running")
            between.cut()
            async with asyncio.timeout(20):
                while not cut.engine.condition.cut_off_seconds:
                    await asyncio.sleep(0.05)
            assert cut.engine.running, "nothing is lost yet"
            async with working(world, tmp_path / "b", QUICK, **lease):
                row = await until_state(world, task, "succeeded")
            between.open = True
            async with asyncio.timeout(20):
                while cut.engine.running:
                    await asyncio.sleep(0.05)
            assert cut.engine.condition.cut_off_seconds == 0
            assert await cut.queue.heartbeat([]) == {}
        assert (row["answer"], row["attempt"]) == ("quick", 2)
        after = await world.task(task)
        assert (after["answer"], after["attempt"]) == ("quick", 2)
    actions = [getattr(record, "action", None) for record in caplog.records]
    assert "cut_off" in actions
    assert actions.index("cut_off") < actions.index("cut_off_end") < actions.index("stop_lost")
    late = await world.database.fetchval(
        "select count(*) from public.task_events where task_id = $1 and data ->> 'text' = 'late'", task
    )
    assert late == 0


async def test_a_worker_whose_database_was_away_for_longer_than_a_lease_goes_on(
    world: World, tmp_path: Path
) -> None:
    person = await world.person()
    lease = {"lease_seconds": 1.5, "beat_seconds": 0.3, "poll_seconds": 0.3}
    async with network(world.supabase.database_url) as between:
        async with working(world, tmp_path / "a", SLOW, url=between.url, **lease) as made:
            task = await world.add(person)
            await until_state(world, task, "running")
            between.cut()
            async with asyncio.timeout(20):
                while not made.engine.condition.cut_off_seconds:
                    await asyncio.sleep(0.05)
            between.open = True
            row = await until_state(world, task, "succeeded")
        assert (row["answer"], row["attempt"], row["failures"]) == ("slow", 1, 0)
