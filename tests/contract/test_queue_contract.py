"""One set of behaviours for every adapter of the queue, on real PostgreSQL and the real API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from pythonic_assistant.adapters.store.queue_functions import QueueFunctions
from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.ending import Cancelled, Failed, Finished, Released, Waiting
from pythonic_assistant.domain.errors import EventsForgottenError, InvalidInputError
from pythonic_assistant.domain.verdict import Evidence, Verdict
from pythonic_assistant.ports import Fence
from tests.contract.queue_world import WAYS, Way, World, fence_of, loaded, noted, open_world
from tests.embedded_fixtures import RunningSupabase

pytestmark = pytest.mark.timeout(60)

PROVEN = Verdict(kind="proven", evidence=(Evidence(check="c", outcome="passed", detail="d", code="e"),))
USAGE = Usage(turns=2, input_tokens=3, output_tokens=4, cost=0.5)
LONG = 3600.0


@pytest.fixture
async def world(embedded_supabase: RunningSupabase) -> AsyncIterator[World]:
    async with open_world(embedded_supabase) as made:
        yield made


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return request.param


@pytest.fixture
def queue(world: World, way: Way) -> QueueFunctions:
    return world.queue(way)


def finished(fence: Fence, answer: str = "42") -> Finished:
    return Finished(task_id=fence.task_id, attempt=fence.attempt, answer=answer, verdict=PROVEN, usage=USAGE)


async def test_claims_go_by_priority_then_age_and_once(world: World, queue: QueueFunctions) -> None:
    person = await world.person()
    first, second = await world.add(person), await world.add(person)
    urgent = await world.add(person, priority=5)
    claim = await queue.claim(2, [])
    assert [(task.id, task.attempt, task.prompt) for task in claim.tasks] == [
        (urgent, 1, "do it"),
        (first, 1, "do it"),
    ]
    assert [task.id for task in (await queue.claim(5, [])).tasks] == [second]
    assert (await queue.claim(5, [])).tasks == ()
    assert {row["worker_id"] for row in [await world.task(id_) for id_ in (first, second, urgent)]} == {
        queue.worker
    }


async def test_a_task_goes_to_a_worker_with_all_its_labels(world: World, way: Way) -> None:
    person = await world.person()
    plain = await world.add(person)
    both = await world.add(person, labels=["gpu", "berlin"])
    assert [task.id for task in (await world.queue(way, labels=["gpu"]).claim(5, [])).tasks] == [plain]
    able = world.queue(way, labels=["office", "gpu", "berlin"])
    assert [task.id for task in (await able.cycle((), 5, [])).claim.tasks] == [both]


async def test_the_next_due_time_comes_with_a_claim(world: World, queue: QueueFunctions) -> None:
    person = await world.person()
    soon = await world.database.fetchval("select now() + interval '90 seconds'")
    await world.add(person, run_at=soon)
    claim = await queue.claim(5, [])
    assert claim.tasks == ()
    assert claim.next_due_seconds is not None
    assert 60 < claim.next_due_seconds <= 90


async def test_who_finds_nothing_learns_when_a_lease_ends(world: World, way: Way) -> None:
    await world.add(await world.person())
    busy, idle = world.queue(way, lease_seconds=9), world.queue(way)
    assert (await busy.cycle((), 1, [])).claim.tasks
    lease_ends = (await idle.cycle((), 1, [])).claim.next_due_seconds
    assert lease_ends is not None
    assert 0 < lease_ends <= 9.1


async def test_one_turn_ends_all_ways_and_claims_the_next(world: World, queue: QueueFunctions) -> None:
    person = await world.person()
    await world.database.execute("update public.profiles set active_limit = 20 where id = $1", person)
    tasks = [await world.add(person) for _ in range(7)]
    claimed = (await queue.claim(6, [])).tasks
    done, failed, again, given, cancelled, waiting = (fence_of(task) for task in claimed)
    await world.database.execute("select pythonic.cancel_task($1)", cancelled.task_id)
    cycle = await queue.cycle(
        [
            finished(done),
            Failed(task_id=failed.task_id, attempt=1, error="broke", retryable=False, usage=USAGE),
            Failed(task_id=again.task_id, attempt=1, error="later", retryable=True),
            Cancelled(task_id=cancelled.task_id, attempt=1),
            Waiting(task_id=waiting.task_id, attempt=1, reason="your yes", usage=USAGE),
        ],
        1,
        [given],
    )
    assert cycle.kept == dict.fromkeys([done, failed, again, cancelled, waiting], True)
    assert [task.id for task in cycle.claim.tasks] == [tasks[-1]]
    released = Released(task_id=given.task_id, attempt=1)
    assert (await queue.cycle([released], 0, [])).kept == {given: True}
    rows = [await world.task(fence_of(task).task_id) for task in claimed]
    assert [row["state"] for row in rows] == [
        "succeeded", "failed", "scheduled", "queued", "cancelled", "waiting",
    ]  # fmt: skip
    assert [row["failures"] for row in rows] == [0, 1, 1, 0, 0, 0]
    assert (rows[0]["answer"], rows[0]["verdict"]) == ("42", "proven")
    assert loaded(rows[0]["evidence"]) == [{"check": "c", "outcome": "passed", "detail": "d", "code": "e"}]
    assert loaded(rows[0]["usage"])["cost"] == 0.5
    assert rows[1]["error"] == "broke"
    assert loaded(rows[5]["usage"])["turns"] == 2


async def test_an_ending_counts_once_and_only_for_the_holder(
    world: World, way: Way, queue: QueueFunctions
) -> None:
    task = await world.add(await world.person())
    await queue.claim(1, [])
    fence, other = Fence(task, 1), world.queue(way)
    assert not await other.end(finished(fence))
    assert not await queue.end(finished(Fence(task, 2)))
    assert (await other.cycle([finished(fence)], 0, [])).kept == {fence: False}
    assert await queue.end(finished(fence))
    assert (await queue.cycle([finished(fence)], 0, [])).kept == {fence: True}, "the reply may have been lost"
    assert not await queue.end(Released(task_id=task, attempt=1))


async def test_a_lost_lease_is_told_and_every_late_write_is_refused(
    world: World, way: Way, queue: QueueFunctions
) -> None:
    person = await world.person()
    task = await world.add(person)
    await queue.claim(1, [])
    fence, other = Fence(task, 1), world.queue(way)
    assert await queue.heartbeat([fence, Fence(task, 7)]) == {fence: "ok", Fence(task, 7): "lost"}
    await world.lose_the_lease(task)
    assert (await queue.claim(1, [fence])).tasks == (), "it was asleep, and holds it still"
    (again,) = (await other.claim(1, [])).tasks
    assert (again.id, again.attempt) == (task, 2)
    assert await queue.heartbeat([fence]) == {fence: "lost"}
    assert not await queue.append(fence, [noted(1)])
    assert not await queue.end(finished(fence))
    assert not await queue.end(Failed(task_id=task, attempt=1, error="x", retryable=True))
    assert not await queue.end(Waiting(task_id=task, attempt=1, reason="x"))
    assert await other.end(finished(Fence(task, 2)))


async def test_a_cancel_is_told_by_the_heartbeat_and_confirmed(world: World, queue: QueueFunctions) -> None:
    task = await world.add(await world.person())
    await queue.claim(1, [])
    fence = Fence(task, 1)
    assert not await queue.end(Cancelled(task_id=task, attempt=1)), "nobody asked for it"
    await world.database.execute("select pythonic.cancel_task($1)", task)
    assert await queue.heartbeat([fence]) == {fence: "cancel"}
    assert await queue.end(Cancelled(task_id=task, attempt=1))
    assert (await world.task(task))["state"] == "cancelled"


async def test_a_waiting_task_comes_back_when_it_is_resumed(world: World, queue: QueueFunctions) -> None:
    task = await world.add(await world.person())
    await queue.claim(1, [])
    assert await queue.end(Waiting(task_id=task, attempt=1, reason="your yes"))
    assert (await queue.claim(1, [])).tasks == ()
    await world.database.execute("select pythonic.resume_task($1)", task)
    (again,) = (await queue.claim(1, [])).tasks
    assert (again.id, again.attempt) == (task, 2)


async def test_a_former_process_of_the_same_worker_is_recovered_from(
    world: World, way: Way, queue: QueueFunctions
) -> None:
    person = await world.person()
    mine, foreign = await world.add(person), await world.add(person)
    await queue.claim(1, [])
    other = world.queue(way)
    await other.claim(1, [])
    successor = world.queue(way, worker=queue.worker)
    assert await successor.recover() == 1
    assert [task.id for task in (await successor.claim(5, [])).tasks] == [mine]
    assert await other.heartbeat([Fence(foreign, 1)]) == {Fence(foreign, 1): "ok"}


async def test_events_are_stored_once_with_what_they_hold(world: World, queue: QueueFunctions) -> None:
    task = await world.add(await world.person())
    await queue.claim(1, [])
    odd = "ж 'quotes' \"and\" \\ back {}[] \U0001f600"
    assert await queue.append(Fence(task, 1), [noted(1, odd), noted(2)])
    assert await queue.append(Fence(task, 1), [noted(2, "another"), noted(3)])
    rows = await world.database.fetch(
        "select seq, data ->> 'text' as text from public.task_events where task_id = $1 order by seq", task
    )
    assert [tuple(row) for row in rows] == [(1, odd), (2, "x"), (3, "x")]


async def test_events_after_one_that_was_forgotten_are_not_stored(
    world: World, queue: QueueFunctions
) -> None:
    task = await world.add(await world.person())
    await queue.claim(1, [])
    fence = Fence(task, 1)
    assert await queue.append(fence, [noted(1)])
    assert await queue.append(fence, [noted(2)], 1)
    await world.database.execute("delete from public.task_events where task_id = $1 and seq = 2", task)
    with pytest.raises(EventsForgottenError, match="Event 2 of task"):
        await queue.append(fence, [noted(3)], 2)
    count = "select count(*) from public.task_events where task_id = $1"
    assert await world.database.fetchval(count, task) == 1
    assert await queue.append(fence, [noted(2)], 1)
    assert await queue.append(fence, [noted(3)], 2)
    assert not await queue.append(Fence(task, 2), [noted(1)], 0), "of a lost lease that is told first"


async def test_what_the_database_refuses_is_an_input_error_and_changes_nothing(
    world: World, queue: QueueFunctions
) -> None:
    task = await world.add(await world.person())
    await queue.claim(1, [])
    with pytest.raises(InvalidInputError):
        await queue.end(finished(Fence(task, 1), answer="a\0b"))
    with pytest.raises(InvalidInputError):
        await queue.cycle([finished(Fence(task, 1), answer="a\0b")], 1, [])
    with pytest.raises(InvalidInputError):
        await queue.append(Fence(task, 1), [noted(1, "a\0b")])
    assert (await world.task(task))["state"] == "running"
    assert await queue.end(finished(Fence(task, 1))), "the adapter is as good as before"


async def test_a_task_of_another_version_is_told_apart(world: World, queue: QueueFunctions) -> None:
    person = await world.person()
    odd, good = await world.add(person), await world.add(person)
    broken = """update public.tasks set inputs = '[{"name": "a"}]' where id = $1"""
    await world.database.execute(broken, odd)
    claim = await queue.claim(5, [])
    assert [task.id for task in claim.tasks] == [good]
    ((fence, problem),) = claim.unreadable
    assert fence == Fence(odd, 1)
    assert "storage_path" in problem


async def test_a_worker_is_seen_by_itself_and_along_with_other_calls(
    world: World, queue: QueueFunctions
) -> None:
    facts = {
        "host": "h", "version": "1", "labels": ["gpu"], "slots": 3, "adapter": "api", "sandbox": "bwrap",
        "model": None, "running": 0, "started_at": "2026-11-22T12:00:00+00:00",
    }  # fmt: skip
    task = await world.add(await world.person())

    async def row() -> tuple[object, ...]:
        found = await world.database.fetchrow(
            "select host, slots, running, stopped_at is not null from public.workers where id = $1",
            queue.worker,
        )
        return tuple(found or ())

    await queue.seen(facts)
    assert await row() == ("h", 3, 0, False)
    cycle = await queue.cycle((), 1, [], facts | {"running": 1})
    assert [claimed.id for claimed in cycle.claim.tasks] == [task]
    assert await row() == ("h", 3, 1, False)
    assert await queue.heartbeat([Fence(task, 1)], facts | {"running": 2}) == {Fence(task, 1): "ok"}
    assert await row() == ("h", 3, 2, False)
    await queue.seen({"stopped": True})
    assert await row() == ("h", 3, 2, True)
    await world.database.execute("delete from public.workers where id = $1", queue.worker)


async def test_many_calls_at_once_come_out_right(world: World, queue: QueueFunctions) -> None:
    person = await world.person()
    await world.database.execute("update public.profiles set active_limit = 50 where id = $1", person)
    tasks = [await world.add(person) for _ in range(12)]
    claims = await asyncio.gather(*(queue.claim(3, []) for _ in range(6)))
    assert sorted(task.id for claim in claims for task in claim.tasks) == tasks
    kept = await asyncio.gather(*(queue.end(finished(Fence(task, 1), str(task))) for task in tasks))
    assert all(kept)
    assert [(await world.task(task))["answer"] for task in tasks] == [str(task) for task in tasks]


async def test_a_cancelled_call_leaves_the_adapter_usable(world: World, queue: QueueFunctions) -> None:
    task = await world.add(await world.person())
    await queue.claim(1, [])
    fence = Fence(task, 1)
    blocker = world.database.transaction()
    await blocker.start()
    try:
        await world.database.execute("select 1 from public.tasks where id = $1 for update", task)
        stuck = asyncio.create_task(queue.append(fence, [noted(1)]))
        await asyncio.wait({stuck}, timeout=0.3)
        assert not stuck.done()
        stuck.cancel()
        await asyncio.wait({stuck})
    finally:
        await blocker.rollback()
    assert (await queue.claim(1, [fence])).tasks == ()
    assert await queue.end(finished(fence))


@pytest.mark.parametrize("way", ["direct", "api"])
async def test_hints_tell_of_tasks_and_cancels(world: World, way: Way) -> None:
    person, queue = await world.person(), world.queue(way)
    loop = asyncio.get_running_loop()
    async with world.hearing(way, queue.worker) as hints:
        delays: list[float] = []
        for _ in range(5):
            asked = loop.time()
            task = await world.add(person)
            delays.append(await hints.until("queued", queue=world.name) - asked)
            await queue.cycle([], 1, [])
            assert await queue.end(finished(Fence(task, 1)))
        assert sorted(delays)[2] < (0.1 if way == "direct" else 2.0), delays
        running = await world.add(person)
        await queue.claim(1, [])
        await world.database.execute("select pythonic.cancel_task($1)", running)
        await hints.until("cancel", task_id=running, attempt=1)


@pytest.mark.parametrize("way", ["direct"])
async def test_another_queues_tasks_wake_nobody(world: World, way: Way) -> None:
    person = await world.person()
    async with world.hearing(way, uuid4()) as hints:
        await world.add(person, queue=f"{world.name}-other")
        await world.add(person)
        await hints.until("queued", queue=world.name)
        assert hints.heard.empty()


async def test_the_ledger_of_effects(world: World, queue: QueueFunctions) -> None:
    fence = Fence(await world.add(await world.person()), 1)
    await queue.claim(1, [])
    effect = {
        "effect_key": "s1/x/1",
        "digest": "0" * 64,
        "step_id": "s1",
        "execution": 1,
        "kind": "tool",
        "name": "send_message",
        "risk": "write",
        "request": {"to": "Ann"},
        "call": "one",
    }
    begun = await queue.begin_effect(fence, effect)
    assert (begun["do"], bool(begun["idempotency_key"])) == ("go", True)
    assert await queue.end_effect(fence, "s1/x/1", "unknown", error="lost")
    unknown = await queue.begin_effect(fence, {**effect, "call": "two"})
    assert (unknown["do"], unknown["effect_key"]) == ("unknown", "s1/x/1")
    assert (await queue.ask_outcome(fence, "s1/x/1", {"form": "fields"}))["do"] == "ask"
    result = {"text": "it's \u2028 done", "list": [1, None]}
    assert await queue.end_effect(fence, "s1/x/1", "succeeded", result=result)
    done = await queue.begin_effect(fence, {**effect, "call": "three"})
    assert (done["do"], done["state"], done["result"]) == ("done", "succeeded", result)
    assert await queue.begin_effect(Fence(fence.task_id, 9), effect) == {"do": "lost"}
    assert not await queue.end_effect(Fence(fence.task_id, 9), "s1/x/1", "failed")
    assert await queue.expire_approvals() == 0
