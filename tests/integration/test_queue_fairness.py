"""Who comes first: labels, limits of people and assistants, and why a task is held."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.integration.queue_calls import Queue

pytestmark = pytest.mark.timeout(120)


async def _claim(queue: Queue, most: int, *labels: str) -> list[dict[str, Any]]:
    reply = await queue.connection.fetchval(
        "select public.claim_tasks($1, $2, $3, 30, '[]', $4)", queue.worker, queue.name, most, list(labels)
    )
    return json.loads(reply)["tasks"]


async def _assistant(queue: Queue, person: UUID, limit: int | None) -> UUID:
    return await queue.connection.fetchval(
        "insert into public.assistants (user_id, name, active_limit) values ($1, 'a', $2) returning id",
        person,
        limit,
    )


async def _limit(queue: Queue, person: UUID, limit: int) -> None:
    await queue.connection.execute(
        "update public.profiles set active_limit = $2 where id = $1", person, limit
    )


async def test_a_worker_takes_only_what_it_has_all_labels_for(queue: Queue) -> None:
    person = await queue.person()
    plain = await queue.add(person)
    gpu = await queue.add(person, labels=["gpu"])
    both = await queue.add(person, labels=["office-network", " GPU", "gpu"])
    assert (await queue.task(both))["labels"] == ["gpu", "office-network"]
    assert [task["id"] for task in await _claim(queue, 9)] == [plain]
    assert await _claim(queue, 9, "office-network") == []
    assert [task["id"] for task in await _claim(queue, 9, "gpu", "other")] == [gpu]
    assert [task["id"] for task in await _claim(queue, 9, "other", "office-network", "gpu")] == [both]


async def test_priority_counts_across_labels(queue: Queue) -> None:
    person = await queue.person()
    await _limit(queue, person, 100)
    wanted: list[tuple[int, int]] = []
    for number in range(12):
        labels: list[str] = [[], ["a"], ["a", "b"], ["b"]][number % 4]
        priority = (number * 7) % 5
        wanted.append((-priority, await queue.add(person, labels=labels, priority=priority)))
    got = [(await _claim(queue, 1, "a", "b"))[0]["id"] for _ in range(4)]
    got += [task["id"] for task in await _claim(queue, 20, "b", "a")]
    assert got == [task for _, task in sorted(wanted)]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["Has Blank"], "no name of a label"),
        (["-x"], "no name of a label"),
        (["x" * 51], "no name of a label"),
        ([f"l{number}" for number in range(9)], "9 labels are too many"),
    ],
)
async def test_labels_that_no_worker_can_have_are_refused_in_words(
    queue: Queue, labels: list[str], words: str
) -> None:
    person = await queue.person()
    with pytest.raises(asyncpg.InvalidParameterValueError, match=words):
        await queue.add(person, labels=labels)


async def test_a_person_asks_for_labels(queue: Queue) -> None:
    person = await queue.person()
    asked = await queue.as_person(
        person, "select to_jsonb(public.enqueue_task('hello', labels => '{gpu}')) ->> 'labels'"
    )
    assert json.loads(asked) == ["gpu"]


async def test_what_is_held_says_why(queue: Queue) -> None:
    person = await queue.person()
    tasks = [await queue.add(person) for _ in range(7)]
    said = "5 of your tasks are active; this one starts when one ends."
    rows = [await queue.task(task) for task in tasks]
    assert [row["held_because"] for row in rows] == [None] * 5 + [said] * 2
    await queue.claim()
    await queue.finish(tasks[0], 1)
    assert [(await queue.task(task))["held_because"] for task in tasks[5:]] == [None, said]
    lone = await queue.person()
    await _limit(queue, lone, 1)
    await queue.add(lone)
    held = await queue.task(await queue.add(lone))
    assert held["held_because"] == "1 of your tasks is active; this one starts when it ends."


async def test_an_assistant_has_a_limit_of_its_own_for_each_person(queue: Queue) -> None:
    person, other = await queue.person(), await queue.person()
    narrow = await _assistant(queue, person, 2)
    thread = await queue.connection.fetchval(
        "insert into public.threads (user_id, assistant_id) values ($1, $2) returning id", person, narrow
    )
    direct = [await queue.add(person, assistant_id=narrow) for _ in range(2)]
    by_thread = await queue.add(person, thread_id=thread)
    free = await queue.add(person)
    assert [await queue.state(task) for task in (*direct, by_thread, free)] == [
        "queued",
        "queued",
        "held",
        "queued",
    ]
    said = "2 tasks of this assistant are active; this one starts when one ends."
    assert (await queue.task(by_thread))["held_because"] == said
    assert await queue.state(await queue.add(other)) == "queued"
    # A crowd that waits for the assistant is no obstacle for what waits for the person's window.
    await _limit(queue, person, 3)
    late = await queue.add(person)
    assert await queue.state(late) == "held"
    await queue.claim()
    await queue.finish(free, 1)
    assert [await queue.state(task) for task in (by_thread, late)] == ["held", "queued"]
    assert (await queue.task(by_thread))[
        "held_because"
    ] == "3 of your tasks are active; this one starts when one ends."
    await queue.finish(direct[0], 1)
    assert await queue.state(by_thread) == "queued"


async def test_an_assistants_limit_is_raised_or_taken_away(queue: Queue) -> None:
    person = await queue.person()
    narrow = await _assistant(queue, person, 1)
    tasks = [await queue.add(person, assistant_id=narrow) for _ in range(4)]
    set_limit = "update public.assistants set active_limit = {} where id = $1 returning 1"
    await queue.as_person(person, set_limit.format(2), narrow)
    assert [await queue.state(task) for task in tasks] == ["queued", "queued", "held", "held"]
    await queue.as_person(person, set_limit.format("null"), narrow)
    assert [await queue.state(task) for task in tasks] == ["queued"] * 4


async def test_tasks_that_are_due_together_keep_to_the_limits(queue: Queue) -> None:
    person = await queue.person()
    narrow = await _assistant(queue, person, 1)
    await queue.connection.execute(
        """insert into public.tasks (user_id, prompt, queue, run_at, assistant_id)
        select $1, 'x', $2, now() + interval '1 hour', case when n <= 3 then $3::uuid end
        from generate_series(1, 10) n""",
        person,
        queue.name,
        narrow,
    )
    await queue.connection.execute("update public.tasks set run_at = now() where user_id = $1", person)
    assert len(await queue.claim(20)) == 5
    states = await queue.connection.fetch(
        """select state, counted_assistant = $2 as narrow, count(*), min(held_because) as why
        from public.tasks where user_id = $1 group by 1, 2 order by 1, 2""",
        person,
        narrow,
    )
    assert [tuple(row) for row in states] == [
        ("held", False, 3, "5 of your tasks are active; this one starts when one ends."),
        ("held", True, 2, "1 task of this assistant is active; this one starts when it ends."),
        ("running", False, 4, None),
        ("running", True, 1, None),
    ]


async def test_a_problem_of_the_person_holds_and_its_end_is_noticed(queue: Queue) -> None:
    person = await queue.person()
    async with _problem(queue, person):
        task = await queue.add(person)
        row = await queue.task(task)
        assert (row["state"], row["held_because"]) == ("held", "Your money is spent; raise the limit.")
        assert await queue.claim() == []
    for _ in range(50):  # a few people are looked at each time
        if await queue.claim():
            break
    assert await queue.state(task) == "running"


class _problem:
    """Gives a person a reason not to start, by the hook that other migrations replace."""

    def __init__(self, queue: Queue, person: UUID) -> None:
        self.queue = queue
        self.person = person

    async def __aenter__(self) -> None:
        self.was = await self.queue.connection.fetchval(
            "select pg_get_functiondef('pythonic.admission_problem(uuid)'::regprocedure)"
        )
        await self.queue.connection.execute(
            f"""create or replace function pythonic.admission_problem(p_user uuid) returns text
            language sql stable set search_path = '' as $$ select case when p_user = '{self.person}'
            then 'Your money is spent; raise the limit.' end $$"""
        )

    async def __aexit__(self, *_: object) -> None:
        await self.queue.connection.execute(self.was)


async def test_a_crowd_of_one_person_delays_another_by_the_window_at_most(queue: Queue) -> None:
    crowd, other = await queue.person(), await queue.person()
    # As an insert of 100,000 leaves it, by the rows themselves: admission is measured below.
    async with queue.connection.transaction():
        await queue.connection.execute("set local session_replication_role = replica")
        await queue.connection.execute(
            """insert into public.tasks (user_id, prompt, queue, kind, state, held_because)
            select $1, 'x', $2, 'probe', case when n <= 5 then 'queued' else 'held' end,
                case when n > 5 then 'full' end
            from generate_series(1, 100000) n""",
            crowd,
            queue.name,
        )
    began = time.monotonic()
    await queue.connection.execute(
        "insert into public.tasks (user_id, prompt, queue) select $1, 'x', $2 from generate_series(1, 300)",
        crowd,
        queue.name,
    )
    assert time.monotonic() - began < 15, "admission must not look at all that is held"
    single = await queue.add(other)
    claimed = [task["id"] for task in await queue.claim(50)]
    assert len(claimed) == 6
    assert claimed[-1] == single
    for task in claimed[:5]:
        async with queue.connection.transaction():
            before = await queue.rows_read()
            assert await queue.finish(task, 1)
            after = await queue.rows_read()
            assert after[0] == before[0]
            assert after[1] - before[1] < 1000, f"a promotion looked at {after[1] - before[1]} rows"
    assert len(await queue.claim(50)) == 5
    async with queue.connection.transaction():  # one by one, each would promote another
        await queue.connection.execute("set local session_replication_role = replica")
        await queue.connection.execute("delete from public.tasks where user_id = $1", crowd)


async def test_many_tasks_of_labels_that_a_worker_lacks_do_not_slow_it(queue: Queue) -> None:
    person = await queue.person()
    async with queue.connection.transaction():
        await queue.connection.execute("set local session_replication_role = replica")
        await queue.connection.execute(
            """insert into public.tasks (user_id, prompt, queue, labels, priority)
            select $1, 'x', $2, case when n % 3 = 0 then '{gpu}' else '{abc,gpu}' end::text[], 9
            from generate_series(1, 30000) n""",
            person,
            queue.name,
        )
    await queue.connection.execute("update public.profiles set active_limit = 1000 where id = $1", person)
    other = await queue.person()
    mine = [await queue.add(other, labels=labels) for labels in (["zoo"], [], ["zoo"])]
    async with queue.connection.transaction():
        before = await queue.rows_read()
        assert [task["id"] for task in await _claim(queue, 5, "zoo")] == mine
        after = await queue.rows_read()
        assert after[0] == before[0]
        assert after[1] - before[1] < 100, f"a claim of three tasks read {after[1] - before[1]} rows"
    async with queue.connection.transaction():
        await queue.connection.execute("set local session_replication_role = replica")
        await queue.connection.execute("delete from public.tasks where user_id = $1", person)
