"""Every transition of the queue on real PostgreSQL, the legal and the illegal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.embedded_fixtures import RunningSupabase

pytestmark = pytest.mark.timeout(60)


class Queue:
    """The functions as a worker (the service role) and as a person call them, one queue name per test."""

    def __init__(self, connection: asyncpg.Connection[Any], url: str) -> None:
        self.connection = connection
        self.url = url
        self.name = f"q-{uuid4()}"
        self.worker = uuid4()
        self.people: list[UUID] = []

    async def person(self) -> UUID:
        made = uuid4()
        await self.connection.execute(
            "insert into auth.users (id, email) values ($1, $2)", made, f"{made}@example.com"
        )
        self.people.append(made)
        return made

    async def add(self, person: UUID, prompt: str = "do it", **columns: Any) -> int:
        names = ["user_id", "prompt", "queue", *columns]
        marks = ", ".join(f"${number}" for number in range(1, len(names) + 1))
        return await self.connection.fetchval(
            f"insert into public.tasks ({', '.join(names)}) values ({marks}) returning id",
            person,
            prompt,
            self.name,
            *columns.values(),
        )

    async def task(self, task: int) -> asyncpg.Record:
        row = await self.connection.fetchrow("select * from public.tasks where id = $1", task)
        assert row is not None
        return row

    async def state(self, task: int) -> str:
        return (await self.task(task))["state"]

    async def claim(
        self, most: int = 10, worker: UUID | None = None, held: list[int] | None = None
    ) -> list[dict[str, Any]]:
        reply = await self.connection.fetchval(
            "select public.claim_tasks($1, $2, $3, 30, $4)",
            worker or self.worker,
            self.name,
            most,
            json.dumps(held or []),
        )
        return json.loads(reply)["tasks"]

    async def call(self, function: str, *arguments: Any) -> Any:
        marks = ", ".join(f"${number}" for number in range(1, len(arguments) + 1))
        return await self.connection.fetchval(f"select public.{function}({marks})", *arguments)

    async def finish(
        self, task: int, attempt: int, worker: UUID | None = None, verdict: str = "unverified"
    ) -> bool:
        evidence = '[{"check": "c", "outcome": "passed"}]' if verdict == "proven" else "[]"
        return await self.call(
            "finish_task", worker or self.worker, task, attempt, "the answer", verdict, evidence, "{}"
        )

    async def fail(self, task: int, attempt: int, *, retryable: bool, evidence: str = "[]") -> bool:
        return await self.call("fail_task", self.worker, task, attempt, "it broke", retryable, evidence, "{}")

    async def lose_the_lease(self, task: int) -> None:
        await self.connection.execute(
            "update public.tasks set lease_until = now() - interval '1 second' where id = $1", task
        )

    async def as_person(self, person: UUID, query: str, *arguments: Any) -> Any:
        async with self.connection.transaction():
            await self.connection.execute(
                """select set_config('request.jwt.claims', $1, true),
                set_config('request.jwt.claim.sub', $2, true)""",
                json.dumps({"sub": str(person), "role": "authenticated"}),
                str(person),
            )
            await self.connection.execute("set local role authenticated")
            return await self.connection.fetchval(query, *arguments)


@pytest.fixture
async def queue(embedded_supabase: RunningSupabase) -> AsyncIterator[Queue]:
    connection = await asyncpg.connect(embedded_supabase.database_url)
    made = Queue(connection, embedded_supabase.database_url)
    yield made
    await connection.execute("delete from auth.users where id = any($1)", made.people)
    await connection.close()


async def test_a_task_is_claimed_once_and_finished_into_its_thread(queue: Queue) -> None:
    person = await queue.person()
    task = await queue.add(person, "  what   is\nit? ")
    (claimed,) = await queue.claim()
    assert (claimed["id"], claimed["attempt"], claimed["user_id"]) == (task, 1, str(person))
    assert await queue.claim() == []
    assert await queue.finish(task, 1, verdict="proven")
    row = await queue.task(task)
    assert (row["state"], row["verdict"], row["answer"]) == ("succeeded", "proven", "the answer")
    assert row["worker_id"] is None
    assert row["finished_at"] is not None
    said = await queue.connection.fetch(
        "select role, content from public.messages where thread_id = $1 order by id", row["thread_id"]
    )
    assert [tuple(message) for message in said] == [
        ("user", "  what   is\nit? "),
        ("assistant", "the answer"),
    ]
    title = await queue.connection.fetchval(
        "select title from public.threads where id = $1", row["thread_id"]
    )
    assert title == "what is it?"


async def test_a_finish_may_come_twice_but_not_from_another(queue: Queue) -> None:
    task = await queue.add(await queue.person())
    await queue.claim()
    assert not await queue.finish(task, 1, worker=uuid4())
    assert not await queue.finish(task, 2)
    assert await queue.finish(task, 1)
    assert await queue.finish(task, 1), "the reply to the first may have been lost"
    answers = await queue.connection.fetchval(
        "select count(*) from public.messages where task_id = $1 and role = 'assistant'", task
    )
    assert answers == 1


async def test_a_lost_lease_goes_to_another_and_the_zombie_is_refused(queue: Queue) -> None:
    task = await queue.add(await queue.person())
    await queue.claim()
    await queue.lose_the_lease(task)
    other = uuid4()
    (claimed,) = await queue.claim(worker=other)
    assert claimed["attempt"] == 2
    assert (await queue.task(task))["failures"] == 1
    beat = json.dumps([{"id": task, "attempt": 1}])
    assert json.loads(await queue.call("heartbeat_tasks", queue.worker, beat, 30.0))[0]["status"] == "lost"
    event = json.dumps([{"seq": 1, "kind": "noted", "data": {}}])
    assert not await queue.call("append_events", queue.worker, task, 1, event)
    assert not await queue.fail(task, 1, retryable=False)
    assert not await queue.call("release_task", queue.worker, task, 1)
    assert not await queue.call("confirm_cancel", queue.worker, task, 1)
    assert not await queue.finish(task, 1)
    assert await queue.state(task) == "running"
    assert await queue.finish(task, 2, worker=other)


async def test_a_worker_lost_again_and_again_fails_the_task_in_words(queue: Queue) -> None:
    task = await queue.add(await queue.person())
    for attempt in (1, 2, 3):
        (claimed,) = await queue.claim(worker=uuid4())
        assert claimed["attempt"] == attempt
        await queue.lose_the_lease(task)
    assert await queue.claim() == []
    row = await queue.task(task)
    assert row["state"] == "failed"
    assert "was lost, and 3 attempts have failed" in row["error"]


async def test_a_worker_that_starts_again_takes_its_own_tasks_back_at_once(queue: Queue) -> None:
    person = await queue.person()
    mine, other, cancelled = await queue.add(person), await queue.add(person), await queue.add(person)
    await queue.claim(1)
    await queue.claim(1, worker=uuid4())
    await queue.claim(1)
    await queue.call("cancel_task", cancelled)
    assert await queue.call("recover_tasks", queue.worker) == 2
    assert [await queue.state(task) for task in (mine, other, cancelled)] == [
        "queued",
        "running",
        "cancelled",
    ]
    assert (await queue.task(mine))["failures"] == 1
    assert not await queue.finish(mine, 1)


async def test_a_failure_comes_back_later_each_time_longer_until_it_is_final(queue: Queue) -> None:
    task = await queue.add(await queue.person())
    for wait in (5, 10):
        (claimed,) = await queue.claim()
        assert await queue.fail(task, claimed["attempt"], retryable=True)
        assert await queue.fail(task, claimed["attempt"], retryable=True), "the reply may have been lost"
        assert await queue.state(task) == "scheduled"
        seconds = await queue.connection.fetchval(
            "select extract(epoch from run_at - now())::float from public.tasks where id = $1", task
        )
        assert wait * 0.8 - 1 <= seconds <= wait * 1.2
        assert await queue.claim() == [], "it is not due yet"
        await queue.connection.execute("update public.tasks set run_at = now() where id = $1", task)
    (claimed,) = await queue.claim()
    assert await queue.fail(task, claimed["attempt"], retryable=True)
    row = await queue.task(task)
    assert (row["state"], row["error"], row["failures"], row["attempt"]) == ("failed", "it broke", 3, 3)


async def test_a_refuted_answer_fails_at_once_with_its_checks(queue: Queue) -> None:
    task = await queue.add(await queue.person())
    await queue.claim()
    await queue.fail(task, 1, retryable=False, evidence='[{"check": "c", "outcome": "failed"}]')
    row = await queue.task(task)
    assert (row["state"], row["verdict"]) == ("failed", "refuted")


async def test_a_release_counts_no_failure(queue: Queue) -> None:
    task = await queue.add(await queue.person())
    await queue.claim()
    assert await queue.call("release_task", queue.worker, task, 1)
    row = await queue.task(task)
    assert (row["state"], row["failures"]) == ("queued", 0)
    assert (await queue.claim())[0]["attempt"] == 2


async def test_cancelling(queue: Queue) -> None:
    person = await queue.person()
    waiting, running = await queue.add(person, priority=-1), await queue.add(person)
    await queue.claim(1)
    assert await queue.call("cancel_task", waiting) == "cancelled"
    assert await queue.call("cancel_task", running) == "cancelling"
    beat = json.dumps([{"id": running, "attempt": 1}])
    assert json.loads(await queue.call("heartbeat_tasks", queue.worker, beat, 30.0))[0]["status"] == "cancel"
    assert not await queue.call("release_task", queue.worker, running, 1), "it must not be run again"
    assert await queue.call("confirm_cancel", queue.worker, running, 1)
    assert await queue.state(running) == "cancelled"
    assert await queue.call("cancel_task", running) == "cancelled"
    assert not await queue.finish(running, 1)


async def test_a_cancelled_task_whose_worker_dies_is_cancelled(queue: Queue) -> None:
    task = await queue.add(await queue.person())
    await queue.claim()
    await queue.call("cancel_task", task)
    await queue.lose_the_lease(task)
    assert await queue.claim(worker=uuid4()) == []
    assert await queue.state(task) == "cancelled"


async def test_a_person_has_so_many_active_tasks_and_the_rest_are_held(queue: Queue) -> None:
    person, other = await queue.person(), await queue.person()
    tasks = [await queue.add(person) for _ in range(7)]
    assert [await queue.state(task) for task in tasks] == ["queued"] * 5 + ["held"] * 2
    late = await queue.add(other)
    assert await queue.state(late) == "queued", "one person's crowd does not hold another up"
    claimed = await queue.claim(20)
    assert {task["id"] for task in claimed} == {*tasks[:5], late}
    await queue.finish(tasks[0], 1)
    assert [await queue.state(task) for task in tasks[5:]] == ["queued", "held"]


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


async def test_order_is_by_priority_then_age(queue: Queue) -> None:
    person = await queue.person()
    low, high, first = (
        await queue.add(person, priority=-1),
        await queue.add(person, priority=5),
        await queue.add(person),
    )
    assert [(await queue.claim(1))[0]["id"] for _ in range(3)] == [high, first, low]


async def test_a_new_attempt_is_told_what_was_finished(queue: Queue) -> None:
    task = await queue.add(await queue.person())
    await queue.claim()
    steps = [
        {"id": name, "title": name, "goal": name, "proof": "", "depends_on": [] if name == "s1" else ["s1"]}
        for name in ("s1", "s2")
    ]
    at = "2026-11-20T12:00:00+00:00"
    events = [
        {"seq": 1, "kind": "plan_made", "at": at, "data": {"plan": {"steps": steps}}},
        {"seq": 2, "kind": "step_started", "step_id": "s1", "at": at, "data": {}},
        {
            "seq": 3, "kind": "step_finished", "step_id": "s1", "at": at,
            "data": {"outcome": "succeeded", "executions": 2, "code": "x = 1", "output": "1", "error": ""},
        },
        {"seq": 4, "kind": "step_started", "step_id": "s2", "at": at, "data": {}},
    ]  # fmt: skip
    assert await queue.call("append_events", queue.worker, task, 1, json.dumps(events))
    assert await queue.call("append_events", queue.worker, task, 1, json.dumps(events)), "twice is once"
    assert (
        await queue.connection.fetchval("select count(*) from public.task_events where task_id = $1", task)
        == 4
    )
    await queue.call("release_task", queue.worker, task, 1)
    (again,) = await queue.claim()
    assert [(step["step_id"], step["state"], step["code"]) for step in again["steps"]] == [
        ("s1", "succeeded", "x = 1"),
        ("s2", "running", None),
    ]
    assert again["steps"][1]["depends_on"] == ["s1"]


async def test_retry_goes_on_or_starts_anew(queue: Queue) -> None:
    person = await queue.person()
    task = await queue.add(person)
    await queue.claim()
    plan = [{"id": "s1", "title": "t", "goal": "g", "proof": "", "depends_on": []}]
    events = [{"seq": 1, "kind": "plan_made", "data": {"plan": {"steps": plan}}}]
    await queue.call("append_events", queue.worker, task, 1, json.dumps(events))
    await queue.fail(task, 1, retryable=False)
    assert await queue.as_person(person, "select public.retry_task($1)", task) == "queued"
    assert len((await queue.claim())[0]["steps"]) == 1
    await queue.fail(task, 2, retryable=False)
    assert await queue.as_person(person, "select public.retry_task($1, true)", task) == "queued"
    assert (await queue.claim())[0]["steps"] == []
    with pytest.raises(asyncpg.PostgresError, match="nothing to retry yet"):
        await queue.as_person(person, "select public.retry_task($1)", task)


async def test_earlier_messages_of_the_thread_come_with_the_claim(queue: Queue) -> None:
    person = await queue.person()
    first = await queue.add(person, "one")
    await queue.claim()
    await queue.finish(first, 1)
    thread = (await queue.task(first))["thread_id"]
    await queue.add(person, "two", thread_id=thread)
    (claimed,) = await queue.claim()
    assert claimed["history"] == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "the answer"},
    ]


async def test_earlier_files_of_the_thread_come_with_the_claim_the_newest_of_a_name(queue: Queue) -> None:
    person = await queue.person()

    def file(name: str, place: str) -> dict[str, Any]:
        return {"name": name, "storage_path": f"{person}/{place}", "media_type": "text/csv", "bytes": 1}

    first = await queue.add(person, inputs=json.dumps([file("a.csv", "1"), file("b.csv", "2")]))
    thread = (await queue.task(first))["thread_id"]
    await queue.add(person, thread_id=thread, inputs=json.dumps([file("b.csv", "3")]))
    await queue.add(person, thread_id=thread, inputs=json.dumps([file("c.csv", "4")]))
    claimed = await queue.claim()
    assert [item["storage_path"][-1] for item in claimed[0]["inputs"]] == ["1", "2"]
    assert [
        (item["name"], item["storage_path"][-1], item.get("earlier", False)) for item in claimed[2]["inputs"]
    ] == [
        ("c.csv", "4", False),
        ("b.csv", "3", True),
        ("a.csv", "1", True),
    ]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"prompt": "   "}, "prompt is empty"),
        ({"prompt": "x" * 20_001}, "20,001|20001"),
        ({"inputs": '[{"name": "a"}]'}, "begins with the person's id"),
        (
            {"inputs": '[{"name": "a", "storage_path": "00000000-0000-4000-8000-000000000009/a"}]'},
            "begins with",
        ),
        ({"inputs": '["x"]'}, "begins with"),
        ({"thread_id": UUID(int=7)}, "thread does not exist"),
        ({"assistant_id": UUID(int=7)}, "assistant does not exist"),
    ],
)
async def test_rows_that_cannot_be_worked_on_are_refused_in_words(
    queue: Queue, columns: dict[str, Any], words: str
) -> None:
    person = await queue.person()
    with pytest.raises(asyncpg.PostgresError, match=words):
        await queue.add(person, columns.pop("prompt", "do it"), **columns)


async def test_a_file_of_another_cannot_be_named_by_a_detour(queue: Queue) -> None:
    person = await queue.person()
    sneaky = json.dumps([{"name": "a", "storage_path": f"{person}/../other/secret.csv"}])
    with pytest.raises(asyncpg.PostgresError, match="storage_path"):
        await queue.add(person, inputs=sneaky)


async def test_what_a_row_claims_about_its_run_is_not_believed(queue: Queue) -> None:
    person = await queue.person()
    task = await queue.add(person, state="succeeded", verdict="proven", answer="trust me", attempt=9)
    row = await queue.task(task)
    assert (row["state"], row["verdict"], row["answer"], row["attempt"]) == ("queued", None, None, 0)


async def test_a_proven_row_needs_evidence(queue: Queue) -> None:
    task = await queue.add(await queue.person())
    await queue.claim()
    with pytest.raises(asyncpg.CheckViolationError):
        await queue.call("finish_task", queue.worker, task, 1, "a", "proven", "[]", "{}")
    with pytest.raises(asyncpg.CheckViolationError):
        await queue.call("finish_task", queue.worker, task, 1, "a", "refuted", "[]", "{}")


async def test_a_double_click_makes_one_task(queue: Queue) -> None:
    person = await queue.person()
    ask = "select (public.enqueue_task('hello', dedupe_key => 'click')).id"
    assert await queue.as_person(person, ask) == await queue.as_person(person, ask)


async def test_people_cannot_touch_tasks_of_others_or_run_state(queue: Queue) -> None:
    alice, bob = await queue.person(), await queue.person()
    task = await queue.add(alice)
    for query in ("select public.cancel_task($1)", "select public.retry_task($1)"):
        with pytest.raises(asyncpg.PostgresError, match=r"no task .* of yours"):
            await queue.as_person(bob, query, task)
    assert await queue.as_person(bob, "select count(*) from public.tasks where id = $1", task) == 0
    assert await queue.as_person(alice, "select count(*) from public.tasks where id = $1", task) == 1
    for query in (
        "update public.tasks set state = 'succeeded' where id = $1 returning id",
        "delete from public.tasks where id = $1 returning id",
        """insert into public.task_events (task_id, attempt, seq, user_id, kind)
        values ($1::bigint, 1, 1, auth.uid(), 'x') returning seq""",
        "insert into public.tasks (prompt, state) values ('x' || $1::bigint, 'succeeded') returning id",
        "select public.claim_tasks(gen_random_uuid(), 'default', $1::int, 30)",
        "select pythonic.claim_tasks(gen_random_uuid(), 'default', $1::int, 30, '[]')",
        "select public.finish_task(gen_random_uuid(), $1, 1, '', 'proven', '[]', '{}')",
        "select pythonic.tell('user:x', 'task', jsonb_build_object('id', $1::bigint))",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await queue.as_person(alice, query, task)


async def test_every_table_and_column_is_commented_and_guarded(queue: Queue) -> None:
    tables = await queue.connection.fetch(
        """select c.oid, c.relname, c.relrowsecurity, obj_description(c.oid) as comment from pg_class c
        where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'"""
    )
    assert len(tables) >= 8
    for table in tables:
        assert table["relrowsecurity"], f"{table['relname']} has no row-level security"
        assert table["comment"], f"{table['relname']} has no comment"
        bare = await queue.connection.fetch(
            """select attname from pg_attribute where attrelid = $1 and attnum > 0 and not attisdropped
            and col_description(attrelid, attnum) is null""",
            table["oid"],
        )
        assert bare == [], f"{table['relname']} has columns without a comment"


async def test_the_claim_keeps_to_its_index_with_a_long_history(queue: Queue) -> None:
    person = await queue.person()
    async with queue.connection.transaction():
        await queue.connection.execute("alter table public.tasks disable trigger user")
        await queue.connection.execute(
            """insert into public.tasks (user_id, prompt, queue, state, finished_at, error)
            select $1, 'old', $2, 'failed', now(), 'x' from generate_series(1, 20000)""",
            person,
            queue.name,
        )
        await queue.connection.execute("alter table public.tasks enable trigger user")
    task = await queue.add(person)
    plan = await queue.connection.fetch(
        """explain select q.id from public.tasks q where q.queue = $1 and q.state = 'queued'
        order by q.priority desc, q.id limit 5 for update skip locked""",
        queue.name,
    )
    text = "\n".join(row[0] for row in plan)
    assert "tasks_claim" in text, text
    assert "Seq Scan" not in text, text
    assert [claimed["id"] for claimed in await queue.claim()] == [task]


async def test_what_a_row_says_of_its_files_is_kept_in_types_that_workers_can_read(queue: Queue) -> None:
    person = await queue.person()
    odd = [
        {"name": 5, "storage_path": f"{person}/a", "media_type": None, "bytes": None, "extra": {"x": 1}},
        {"name": "b", "storage_path": f"{person}/b", "bytes": 1.7},
        {"name": "c", "storage_path": f"{person}/c", "bytes": "many"},
    ]
    await queue.add(person, inputs=json.dumps(odd))
    (claimed,) = await queue.claim()
    assert claimed["inputs"] == [
        {"name": "5", "storage_path": f"{person}/a", "media_type": "application/octet-stream", "bytes": 0},
        {"name": "b", "storage_path": f"{person}/b", "media_type": "application/octet-stream", "bytes": 1},
        {"name": "c", "storage_path": f"{person}/c", "media_type": "application/octet-stream", "bytes": 0},
    ]


async def test_held_tasks_go_on_when_a_thread_is_deleted_or_the_limit_is_raised(queue: Queue) -> None:
    person = await queue.person()
    tasks = [await queue.add(person) for _ in range(8)]
    thread = (await queue.task(tasks[0]))["thread_id"]
    await queue.connection.execute("delete from public.threads where id = $1", thread)
    assert [await queue.state(task) for task in tasks[1:]] == ["queued"] * 5 + ["held"] * 2
    await queue.connection.execute("update public.profiles set active_limit = 6 where id = $1", person)
    assert [await queue.state(task) for task in tasks[1:]] == ["queued"] * 6 + ["held"]


async def test_a_cancelled_task_that_fails_at_the_same_time_does_not_come_back(queue: Queue) -> None:
    task = await queue.add(await queue.person())
    await queue.claim()
    await queue.call("cancel_task", task)
    assert await queue.fail(task, 1, retryable=True)
    assert await queue.state(task) == "cancelled"


async def test_a_worker_that_only_slept_does_not_lose_its_tasks_to_itself(queue: Queue) -> None:
    task = await queue.add(await queue.person())
    await queue.claim()
    await queue.lose_the_lease(task)
    assert await queue.claim(held=[task]) == []
    beat = json.dumps([{"id": task, "attempt": 1}])
    assert json.loads(await queue.call("heartbeat_tasks", queue.worker, beat, 30.0))[0]["status"] == "ok"
    assert (await queue.task(task))["failures"] == 0


async def test_a_new_answer_takes_the_place_of_the_old_with_its_files(queue: Queue) -> None:
    person = await queue.person()
    task = await queue.add(person)

    async def leave(attempt: int, name: str) -> None:
        data = {
            "name": name,
            "storage_path": f"{person}/{name}",
            "media_type": "x",
            "bytes": 1,
            "sha256": "0" * 64,
        }
        events = [{"seq": 1, "kind": "artifact_saved", "data": data}]
        assert await queue.call("append_events", queue.worker, task, attempt, json.dumps(events))

    await queue.claim()
    await leave(1, "wrong.csv")
    await queue.call("release_task", queue.worker, task, 1)
    await queue.claim()
    await leave(2, "right.csv")
    assert await queue.finish(task, 2)
    names = "select array_agg(name) from public.artifacts where task_id = $1"
    assert await queue.connection.fetchval(names, task) == ["right.csv"]
    await queue.as_person(person, "select public.retry_task($1, true)", task)
    assert await queue.connection.fetchval(names, task) is None
    said = "select count(*) from public.messages where task_id = $1 and role = 'assistant'"
    assert await queue.connection.fetchval(said, task) == 0


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
