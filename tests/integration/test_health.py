"""What the views say of workers and tasks, and who sees what."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.callers import Someone
from tests.integration.queue_calls import Queue

pytestmark = pytest.mark.timeout(60)


async def health(queue: Queue) -> dict[str, Any]:
    row = await queue.connection.fetchrow("select * from public.queue_health where queue = $1", queue.name)
    assert row is not None
    return dict(row)


async def why(queue: Queue, task: int) -> tuple[str, bool]:
    row = await queue.connection.fetchrow("select why, unroutable from public.task_waits where id = $1", task)
    assert row is not None
    return row["why"], row["unroutable"]


async def test_a_task_says_why_it_does_not_start(queue: Queue) -> None:
    label = f"l-{uuid4().hex[:12]}"  # other tests may have workers online
    person = await queue.person()
    first, second = (
        await queue.add(person, labels=[label]),
        await queue.add(person, labels=["zz-tape", label]),
    )
    helper = uuid4()
    await queue.call("worker_seen", helper, json.dumps({"host": "h", "slots": 1, "labels": ["other"]}))
    assert await why(queue, first) == (f"Needs a worker with the label {label}; none is online.", True)
    assert await why(queue, second) == (
        f"Needs a worker with the labels {label}, zz-tape; none is online.",
        True,
    )
    assert (await health(queue))["unroutable"] == 2
    await queue.call("worker_seen", helper, json.dumps({"labels": [label]}))
    assert await why(queue, first) == ("Starts in a moment.", False)
    assert (await health(queue))["unroutable"] == 1
    await queue.call("worker_seen", helper, json.dumps({"running": 1}))
    assert (await why(queue, first))[
        0
    ] == "Every worker that can take it is busy; it starts when one is free."
    await queue.connection.execute(
        "update public.workers set seen_at = now() - interval '91 seconds' where id = $1", helper
    )
    assert (await why(queue, first))[1]
    held = [await queue.add(person) for _ in range(5)][-1]
    reason = await why(queue, held)
    assert "of your tasks are active" in reason[0]
    seen = await health(queue)
    assert json.loads(seen["held_reasons"]) == {reason[0]: seen["held"]}
    assert seen["oldest_queued_seconds"] >= 0
    await queue.connection.execute("delete from public.workers where id = $1", helper)


async def test_what_is_stuck_slow_lost_or_dead_is_found(queue: Queue) -> None:
    person = await queue.person()
    kinds = "insert into public.tasks (user_id, prompt, queue) select $1, 'p', $2 from generate_series(1, 3)"
    await queue.connection.execute(kinds, person, queue.name)
    tasks = await queue.claim(3)
    stuck, slow, dead = (task["id"] for task in tasks)
    for task, events in (
        (stuck, [{"seq": 1, "kind": "noted", "at": "2026-01-01T00:00:00+00:00", "data": {}}]),
        (
            slow,
            [
                {"seq": 1, "kind": "noted", "at": "2026-01-01T00:00:00+00:00", "data": {}},
                {"seq": 2, "kind": "noted", "data": {}},
            ],
        ),
    ):
        await queue.call("append_events", queue.worker, task, 1, json.dumps(events))
    async with queue.connection.transaction():
        # Twenty that took ten seconds make three minutes slow, and fewer would prove nothing.
        await queue.connection.execute(
            """insert into public.tasks (user_id, prompt, queue, run_at)
            select $1, 'p', $2, now() + interval '1 day' from generate_series(1, 20)""",
            person,
            queue.name,
        )
        done = """update public.tasks set state = 'succeeded', answer = 'a', verdict = 'unverified',
            started_at = now() - interval '10 seconds', finished_at = now()
            where user_id = $1 and state = 'scheduled'"""
        await queue.connection.execute(done, person)
    rows = await queue.connection.fetch("select * from public.running_tasks where queue = $1", queue.name)
    found = {row["id"]: row for row in rows}
    assert [found[task]["stuck"] for task in (stuck, slow, dead)] == [True, False, False]
    assert found[slow]["slow"]
    assert not found[dead]["slow"]
    await queue.connection.execute(
        "update public.tasks set lease_until = now() - interval '1 minute' where id = $1", slow
    )
    await queue.call("fail_task", queue.worker, dead, 1, "It broke.", False, "[]", "{}")
    seen = await health(queue)
    assert {name: seen[name] for name in ("running", "stuck", "slow", "lost", "dead_letters")} == {
        "running": 2,
        "stuck": 1,
        "slow": 2,
        "lost": 1,
        "dead_letters": 1,
    }
    (letter,) = await queue.connection.fetch(
        "select id, error from public.dead_letters where user_id = $1", person
    )
    assert (letter["id"], letter["error"]) == (dead, "It broke.")


def test_the_views_show_people_their_own_tasks_and_every_worker(
    ann: Someone, bob: Someone, worker: Someone, nobody: Someone
) -> None:
    helper = str(uuid4())
    worker.rpc("worker_seen", worker=helper, facts={"host": "seen-by-all", "slots": 2})
    ann.post("tasks", {"prompt": "a secret plan", "labels": ["nowhere-at-all"]})
    for view in ("task_waits", "queue_health", "running_tasks", "dead_letters", "spend_by_day"):
        assert ann.get(view).status_code == 200, view
        assert nobody.get(view).status_code in (401, 403), view
        assert "secret plan" not in bob.get(view).text
    assert "secret plan" in ann.get("task_waits").text
    assert ann.get("queue_health").json()[0]["queued"] == 1
    assert bob.get("queue_health").json() == []
    assert "seen-by-all" in bob.get("worker_health").text
    assert nobody.get("worker_health").status_code in (401, 403)
