"""Cycles, workers that are gone, and what wakes whom."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.integration.queue_calls import Queue

pytestmark = pytest.mark.timeout(60)


async def _cycle(
    queue: Queue, ended: list[dict[str, Any]], most: int = 10, worker: UUID | None = None
) -> dict[str, Any]:
    reply = await queue.connection.fetchval(
        "select public.cycle_tasks($1, $2, $3, 30, '[]', '{}', $4)",
        worker or queue.worker,
        queue.name,
        most,
        json.dumps(ended),
    )
    return json.loads(reply)


def _finish(task: int, attempt: int = 1) -> dict[str, Any]:
    return {
        "how": "finish", "id": task, "attempt": attempt, "answer": f"answer {task}", "verdict": "proven",
        "evidence": [{"check": "c", "outcome": "passed"}], "usage": {"turns": 1},
    }  # fmt: skip


async def test_a_cycle_ends_attempts_in_every_way_and_claims_what_that_makes_room_for(queue: Queue) -> None:
    person, other = await queue.person(), await queue.person()
    await queue.connection.execute("update public.profiles set active_limit = 7 where id = $1", person)
    tasks = [await queue.add(person) for _ in range(9)]
    theirs = await queue.add(other)
    claim = await _cycle(queue, [])
    assert claim["ended"] == []
    assert [task["id"] for task in claim["tasks"]] == [*tasks[:7], theirs]
    await queue.call("cancel_task", tasks[5])
    ended: list[dict[str, Any]] = [
        {"how": "release", "id": tasks[4], "attempt": 1},
        _finish(tasks[1]),
        {"how": "fail", "id": tasks[2], "attempt": 1, "error": "it broke", "retryable": True},
        {"how": "fail", "id": tasks[3], "attempt": 1, "error": "it broke", "retryable": False,
         "evidence": [{"check": "c", "outcome": "failed"}]},
        {"how": "cancel", "id": tasks[5], "attempt": 1},
        {"how": "wait", "id": tasks[6], "attempt": 1, "reason": "your yes"},
        _finish(tasks[0]),
        _finish(theirs, 2),
    ]  # fmt: skip
    claim = await _cycle(queue, ended)
    kept = {item["id"]: (item["attempt"], item["kept"]) for item in claim["ended"]}
    assert kept == {item["id"]: (item["attempt"], item["id"] != theirs) for item in ended}
    assert [(task["id"], task["attempt"]) for task in claim["tasks"]] == [
        (tasks[4], 2),
        (tasks[7], 1),
        (tasks[8], 1),
    ]
    assert 3.9 <= claim["next_due_seconds"] <= 6.1, "the failed one comes back"
    assert [await queue.state(task) for task in (*tasks[:7], theirs)] == [
        "succeeded", "succeeded", "scheduled", "failed", "running", "cancelled", "waiting", "running",
    ]  # fmt: skip
    assert (await queue.task(tasks[3]))["verdict"] == "refuted"
    said = await queue.connection.fetch(
        """select m.content, th.updated_at = m.created_at as touched
        from public.messages m join public.threads th on th.id = m.thread_id
        where m.role = 'assistant' and m.user_id = $1 order by m.id""",
        person,
    )
    assert [tuple(row) for row in said] == [(f"answer {task}", True) for task in tasks[:2]]
    again = await _cycle(queue, ended[1:2], 0)
    assert again["ended"] == [{"id": tasks[1], "attempt": 1, "kept": True}], "the first reply may be lost"
    with pytest.raises(asyncpg.InvalidParameterValueError, match="cannot end by 'vanish'"):
        await _cycle(queue, [{"how": "vanish", "id": tasks[4], "attempt": 2}])


async def test_a_busy_cycle_also_takes_back_what_is_lost(queue: Queue) -> None:
    person = await queue.person()
    mine = await queue.add(person)
    await queue.claim()
    lost = await queue.add(person)
    await queue.claim(worker=uuid4())
    await queue.lose_the_lease(lost)
    for _ in range(40):  # once in a second of all workers
        await _cycle(queue, [_finish(mine)], 0)
        if await queue.state(lost) == "queued":
            break
        await asyncio.sleep(0.1)
    assert await queue.state(lost) == "queued"


async def _direct_worker(queue: Queue, seen_before: str) -> tuple[UUID, asyncpg.Connection[Any]]:
    worker = uuid4()
    session = await asyncpg.connect(queue.url)
    await session.execute(
        "select pg_advisory_lock(hashtextextended('pythonic.worker:' || $1::text, 0))", str(worker)
    )
    await queue.call("worker_seen", worker, json.dumps({"adapter": "direct", "host": "here", "slots": 4}))
    await queue.connection.execute(
        f"update public.workers set seen_at = now() - interval '{seen_before}' where id = $1", worker
    )
    return worker, session


async def test_a_direct_worker_that_is_gone_loses_its_tasks_long_before_the_lease_ends(queue: Queue) -> None:
    await _server_is_up_long_enough(queue)
    person = await queue.person()
    worker, session = await _direct_worker(queue, "6 seconds")
    task = await queue.add(person)
    await queue.claim(worker=worker)
    assert await queue.claim() == []
    assert await queue.state(task) == "running", "its session is there"
    await session.close()
    for _ in range(100):  # the server ends a session a little later
        if claimed := await queue.claim():
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("the task of the gone worker was not taken back")
    assert [item["id"] for item in claimed] == [task]
    assert (await queue.task(task))["failures"] == 1
    assert not await queue.finish(task, 1, worker=worker)
    fresh, session = await _direct_worker(queue, "1 second")
    late = await queue.add(person)
    await queue.claim(worker=fresh)
    await session.close()
    await asyncio.sleep(0.2)
    assert await queue.claim() == []
    assert await queue.state(late) == "running", "it was seen a moment ago, and may be coming back"


async def _server_is_up_long_enough(queue: Queue) -> None:
    seconds = await queue.connection.fetchval(
        "select extract(epoch from now() - pg_postmaster_start_time())::float"
    )
    await asyncio.sleep(max(0.0, 15.5 - seconds))


async def test_a_worker_tells_of_itself_and_everybody_signed_in_may_read_it(queue: Queue) -> None:
    worker, person = uuid4(), await queue.person()
    facts = {
        "host": "h", "version": "1.2", "labels": ["gpu", "GPU", "a"], "slots": 3, "adapter": "direct",
        "sandbox": "namespaces", "model": "m", "running": 2,
    }  # fmt: skip
    await queue.call("worker_seen", worker, json.dumps(facts))
    await queue.call("worker_seen", worker, json.dumps({"running": 0}))
    row = json.loads(
        await queue.as_person(person, "select to_jsonb(w) from public.workers w where id = $1", worker)
    )
    assert {name: row[name] for name in facts} == facts | {"labels": ["a", "gpu"], "running": 0}
    assert row["stopped_at"] is None
    await queue.call("worker_seen", worker, '{"stopped": true}')
    assert await queue.connection.fetchval("select stopped_at from public.workers where id = $1", worker)
    await queue.call("worker_seen", worker, "{}")
    assert not await queue.connection.fetchval("select stopped_at from public.workers where id = $1", worker)
    for query in (
        "update public.workers set host = 'x' where id = $1 returning id",
        "delete from public.workers where id = $1 returning id",
        "insert into public.workers (id) values ($1) returning id",
        "select public.worker_seen($1, '{}')",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await queue.as_person(person, query, worker)
    async with queue.connection.transaction():
        await queue.connection.execute("set local role anon")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await queue.connection.fetchval("select count(*) from public.workers")
    await queue.connection.execute("delete from public.workers where id = $1", worker)


async def test_no_person_can_call_what_is_for_workers(queue: Queue) -> None:
    person = await queue.person()
    open_to_people = await queue.connection.fetch(
        """select p.oid::regprocedure::text as name from pg_proc p
        where p.pronamespace in ('public'::regnamespace, 'pythonic'::regnamespace)
            and has_function_privilege('authenticated', p.oid, 'execute')
            and p.proname ~ any(array['claim', 'cycle', 'heartbeat', 'append', 'finish', 'fail', 'release',
                'confirm', 'wait', 'resume', 'recover', 'reap', 'take_back', 'upkeep', 'promote', 'admi',
                'worker', 'held', 'due', 'event'])"""
    )
    assert [row["name"] for row in open_to_people] == []
    for role in ("anon", "authenticated"):
        assert not await queue.connection.fetchval(
            "select has_function_privilege($1, 'pythonic.resume_task(bigint, boolean)', 'execute')", role
        )
    for column in ("held_because", "waiting_for", "resume_attempt", "counted_assistant"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await queue.as_person(
                person, f"insert into public.tasks (prompt, {column}) values ('x', null) returning id"
            )


@pytest.fixture
async def heard(queue: Queue) -> AsyncIterator[asyncio.Queue[dict[str, Any]]]:
    """What direct workers are told about this queue."""
    said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    session = await asyncpg.connect(queue.url)

    def hear(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        said.put_nowait(json.loads(str(payload)))

    await session.add_listener("pythonic_queue", hear)
    yield said
    await session.close()


async def _next(heard: asyncio.Queue[dict[str, Any]]) -> dict[str, Any]:
    async with asyncio.timeout(10):
        return await heard.get()


async def test_workers_are_woken_once_by_a_statement_and_told_of_each_cancel(
    queue: Queue, heard: asyncio.Queue[dict[str, Any]]
) -> None:
    person = await queue.person()
    await queue.connection.execute(
        "insert into public.tasks (user_id, prompt, queue) select $1, 'x', $2 from generate_series(1, 4)",
        person,
        queue.name,
    )
    woken = {"event": "queued", "queue": queue.name}
    assert await _next(heard) == woken
    claimed = await queue.claim()
    await queue.call("cancel_task", claimed[0]["id"])
    cancel = {"event": "cancel", "task_id": claimed[0]["id"], "attempt": 1}
    assert await _next(heard) == cancel, "a statement wakes once, and a claim wakes nobody"
    await queue.add(person, run_at=datetime.now(UTC) + timedelta(seconds=20))
    assert await _next(heard) == woken, "it is due before a worker would look by itself"
    await queue.add(person, run_at=datetime.now(UTC) + timedelta(hours=1))
    await queue.fail(claimed[1]["id"], 1, retryable=True)
    assert await _next(heard) == woken, "it comes back soon; what is far off wakes nobody"
    await queue.call("release_task", queue.worker, claimed[2]["id"], 1)
    assert await _next(heard) == woken
    assert heard.empty()


async def test_while_a_commit_is_waking_the_workers_others_need_not(
    queue: Queue, heard: asyncio.Queue[dict[str, Any]]
) -> None:
    person = await queue.person()
    waking = await asyncpg.connect(queue.url)
    try:
        async with waking.transaction():
            for place in range(4):
                await waking.execute(
                    """select pg_advisory_xact_lock(
                        hashtextextended('pythonic.notify:' || $1::text, $2::bigint))""",
                    queue.name,
                    place,
                )
            task = await queue.add(person)
            await queue.claim()
            await queue.call("cancel_task", task)
            assert (await _next(heard))["event"] == "cancel", "a cancel is told always, the new task was not"
        await queue.add(person)
        assert (await _next(heard))["event"] == "queued"
    finally:
        await waking.close()


async def test_a_page_is_told_of_each_task_and_of_several_by_one_message(queue: Queue) -> None:
    person = await queue.person()
    read = "select event, payload from realtime.messages where topic = $1 order by position"
    topic = f"user:{person}"
    task = await queue.add(person)
    row = await queue.task(task)
    (message,) = await queue.connection.fetch(read, topic)
    assert message["event"] == "task"
    told = json.loads(message["payload"])
    told.pop("id")
    assert told == {
        "task_id": task, "thread_id": str(row["thread_id"]), "kind": "task", "state": "queued", "attempt": 0,
        "verdict": None, "cancelling": False,
    }  # fmt: skip
    await queue.add(person)
    await queue.claim()
    messages = await queue.connection.fetch(read, topic)
    assert [message["event"] for message in messages] == ["task", "task", "tasks"]
    several = json.loads(messages[2]["payload"])["tasks"]
    assert [(fact["task_id"], fact["state"], fact["attempt"]) for fact in several] == [
        (task, "running", 1),
        (several[1]["task_id"], "running", 1),
    ]
    beat = json.dumps([{"id": task, "attempt": 1}])
    await queue.call("heartbeat_tasks", queue.worker, beat, 30.0)
    assert len(await queue.connection.fetch(read, topic)) == 3, "a lease that is renewed is no news"


async def test_cycles_of_many_workers_with_everything_at_once_do_not_deadlock(queue: Queue) -> None:
    people = [await queue.person() for _ in range(4)]
    connections = [await asyncpg.connect(queue.url) for _ in range(5)]
    add = "insert into public.tasks (user_id, prompt, queue, run_at) values ($1, 'x', $2, now() + $3)"

    asked = asyncio.Event()
    kept: list[int] = []

    async def work(connection: asyncpg.Connection[Any]) -> None:
        worker, endings, turn = uuid4(), list[dict[str, Any]](), 0
        while turn < 12 or not asked.is_set() or not kept:
            turn += 1
            reply = json.loads(
                await connection.fetchval(
                    "select public.cycle_tasks($1, $2, 4, 30, '[]', '{}', $3)",
                    worker,
                    queue.name,
                    json.dumps(endings),
                )
            )
            # Not what was deleted with its thread.
            kept.extend(item["id"] for item in reply["ended"] if item["kept"])
            endings = [_finish(task["id"], task["attempt"]) for task in reply["tasks"]]
            if turn % 3 == 0:
                endings = [{**ending, "how": "wait", "reason": "x"} for ending in endings]
        await connection.fetchval(
            "select public.cycle_tasks($1, $2, 0, 30, '[]', '{}', $3)",
            worker,
            queue.name,
            json.dumps(endings),
        )

    async def ask(connection: asyncpg.Connection[Any]) -> None:
        for turn in range(12):
            for person in people if turn % 2 else reversed(people):
                await connection.execute(add, person, queue.name, timedelta(milliseconds=turn * 5 % 20))
            waiting = await connection.fetch(
                "select id from public.tasks where queue = $1 and state = 'waiting' order by id desc",
                queue.name,
            )
            for row in waiting:
                await connection.execute("select pythonic.resume_task($1)", row["id"])
            threads = await connection.fetch(
                "select id from public.threads where user_id = $1 order by id limit 1", people[turn % 4]
            )
            for row in threads:
                async with connection.transaction():
                    await connection.execute(
                        "select set_config('request.jwt.claim.sub', $1, true)", str(people[turn % 4])
                    )
                    await connection.execute("delete from public.threads where id = $1", row["id"])

    async def ask_all() -> None:
        await asyncio.gather(*(ask(connection) for connection in connections[3:]))
        asked.set()

    try:
        await asyncio.gather(ask_all(), *(work(connection) for connection in connections[:3]))
        assert kept
    finally:
        for connection in connections:
            await connection.close()
