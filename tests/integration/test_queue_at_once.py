"""The queue with many callers at once and with a long history."""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.integration.ledger_desk import become
from tests.integration.queue_calls import Queue

pytestmark = pytest.mark.timeout(60)


async def test_many_at_once_never_exceed_the_limit(queue: Queue) -> None:
    person = await queue.person()
    connections = [await asyncpg.connect(queue.url) for _ in range(6)]
    try:
        add = "insert into public.tasks (user_id, prompt, queue) values ($1, 'x', $2)"
        await asyncio.gather(*(connection.execute(add, person, queue.name) for connection in connections))
        await asyncio.gather(*(connection.execute(add, person, queue.name) for connection in connections))
        states = await queue.connection.fetch(
            "select state, count(*) from public.tasks where user_id = $1 group by state", person
        )
        assert {row["state"]: row["count"] for row in states} == {"queued": 5, "held": 7}
        claims = await asyncio.gather(
            *(
                connection.fetchval("select public.claim_tasks($1, $2, 2, 30)", uuid4(), queue.name)
                for connection in connections
            )
        )
        ids = [task["id"] for claim in claims for task in json.loads(claim)["tasks"]]
        assert len(ids) == len(set(ids)) == 5
    finally:
        for connection in connections:
            await connection.close()


async def test_inserts_and_finishes_in_one_thread_do_not_deadlock(queue: Queue) -> None:
    person = await queue.person()
    await queue.connection.execute("update public.profiles set active_limit = 100 where id = $1", person)
    thread = (await queue.task(await queue.add(person)))["thread_id"]
    connections = [await asyncpg.connect(queue.url) for _ in range(6)]
    add = "insert into public.tasks (user_id, prompt, queue, thread_id) values ($1, 'x', $2, $3)"
    finish = "select public.finish_task($1, $2, 1, 'a', 'unverified', '[]', '{}')"
    try:
        for _ in range(15):
            for _ in range(3):
                await queue.connection.execute(add, person, queue.name, thread)
            claimed = await queue.claim(3)
            await asyncio.gather(
                *(connection.execute(add, person, queue.name, thread) for connection in connections[:3]),
                *(
                    connection.execute(finish, queue.worker, task["id"])
                    for connection, task in zip(connections[3:], claimed, strict=True)
                ),
            )
    finally:
        for connection in connections:
            await connection.close()


async def test_claims_of_many_workers_with_tasks_due_of_many_people_do_not_deadlock(queue: Queue) -> None:
    people = [await queue.person() for _ in range(6)]
    connections = [await asyncpg.connect(queue.url) for _ in range(6)]
    claimed = 0
    try:
        for _ in range(10):
            for person in [*people, *reversed(people)]:
                await queue.add(person, run_at=datetime.now(UTC) + timedelta(hours=1))
            await queue.connection.execute(
                "update public.tasks set run_at = now() where queue = $1", queue.name
            )
            workers = [uuid4() for _ in connections]
            claims = await asyncio.gather(
                *(
                    connection.fetchval("select public.claim_tasks($1, $2, 2, 30)", worker, queue.name)
                    for connection, worker in zip(connections, workers, strict=True)
                )
            )
            for worker, claim in zip(workers, claims, strict=True):
                for task in json.loads(claim)["tasks"]:
                    claimed += 1
                    assert await queue.finish(task["id"], task["attempt"], worker=worker)
        assert claimed > 0
    finally:
        for connection in connections:
            await connection.close()


async def test_a_person_who_removes_a_thread_or_its_assistant_never_meets_the_queue_half_way(
    queue: Queue,
) -> None:
    finish = "select public.finish_task($1, $2, 1, 'a', 'unverified', '[]', '{}')"
    saved = {
        "seq": 1,
        "kind": "variable_saved",
        "at": "2026-11-22T00:00:00Z",
        "data": {
            "name": "x",
            "type": "int",
            "bytes": 1,
            "media_type": "application/json",
            "load": "x = 1",
            "storage_path": "p",
        },
    }
    save = f"select public.append_events($1, $2, 1, '{json.dumps([saved])}')"
    worker, remover = [await asyncpg.connect(queue.url) for _ in range(2)]

    async def remove(person: UUID, table: str, what: object) -> str:
        async with remover.transaction():
            await become(remover, person)
            return await remover.execute(f"delete from public.{table} where id = $1", what)

    try:
        for table, doing in itertools.product(("threads", "assistants"), (finish, save)):
            person = await queue.person()
            assistant = await queue.connection.fetchval(
                "insert into public.assistants (user_id, name) values ($1, 'a') returning id",
                person,
            )
            task = await queue.add(person, assistant_id=assistant)
            thread = (await queue.task(task))["thread_id"]
            await queue.claim()
            # The queue is in the middle: it has the admission and the task, and the removal has begun.
            async with worker.transaction():
                await worker.execute("select pythonic.lock_admission_of($1)", task)
                await worker.execute("select 1 from public.tasks where id = $1 for update", task)
                removing = asyncio.create_task(
                    remove(person, table, thread if table == "threads" else assistant)
                )
                await asyncio.sleep(0.2)
                assert not removing.done()
                await worker.fetchval(doing, queue.worker, task)
            assert await removing == "DELETE 1"
    finally:
        for connection in (worker, remover):
            await connection.close()
