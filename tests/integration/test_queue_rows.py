"""The rows of the queue: what they may say, what comes with a claim, and who may touch them."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.integration.queue_calls import Queue

pytestmark = pytest.mark.timeout(60)


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


async def test_a_person_who_goes_leaves_nothing_behind(queue: Queue) -> None:
    person = await queue.person()
    task = await queue.add(person)
    await queue.claim()
    at = "2026-11-22T00:00:00Z"
    step = {"id": "s1", "title": "One", "goal": "one", "proof": "printed", "depends_on": []}
    file = {
        "name": "a.csv",
        "storage_path": f"{person}/a.csv",
        "media_type": "text/csv",
        "bytes": 1,
        "sha256": "0" * 64,
    }
    events = [
        {"seq": 1, "kind": "plan_made", "at": at, "data": {"plan": {"steps": [step]}}},
        {"seq": 2, "kind": "artifact_saved", "at": at, "data": file},
    ]
    assert await queue.call("append_events", queue.worker, task, 1, json.dumps(events))
    tables = ("threads", "tasks", "messages", "task_events", "task_steps", "artifacts", "task_changes")
    count = "select count(*) from public.{} where user_id = $1"
    left = [await queue.connection.fetchval(count.format(table), person) for table in tables]
    assert all(left), dict(zip(tables, left, strict=True))
    await queue.connection.execute("delete from auth.users where id = $1", person)
    left = [await queue.connection.fetchval(count.format(table), person) for table in tables]
    assert not any(left), dict(zip(tables, left, strict=True))
