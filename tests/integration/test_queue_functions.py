"""Every transition of the queue on real PostgreSQL, the legal and the illegal."""

from __future__ import annotations

import json
from uuid import uuid4

import asyncpg
import pytest

from tests.integration.queue_calls import Queue

pytestmark = pytest.mark.timeout(60)


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
