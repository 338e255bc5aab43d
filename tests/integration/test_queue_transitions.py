"""Every change of a task's state from every state: the legal ones happen, the illegal ones change nothing."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.integration.queue_calls import Queue

pytestmark = pytest.mark.timeout(60)

Make = Callable[[Queue, UUID], Awaitable[int]]
Act = Callable[[Queue, int, int], Awaitable[object]]


async def _scheduled(queue: Queue, person: UUID) -> int:
    return await queue.add(person, run_at=datetime.now(UTC) + timedelta(hours=1))


async def _queued(queue: Queue, person: UUID) -> int:
    return await queue.add(person)


async def _held(queue: Queue, person: UUID) -> int:
    await queue.connection.execute("update public.profiles set active_limit = 1 where id = $1", person)
    await queue.add(person)
    return await queue.add(person)


async def _running(queue: Queue, person: UUID) -> int:
    task = await queue.add(person)
    assert [claimed["id"] for claimed in await queue.claim()] == [task]
    return task


async def _cancelling(queue: Queue, person: UUID) -> int:
    task = await _running(queue, person)
    assert await queue.call("cancel_task", task) == "cancelling"
    return task


async def _waiting(queue: Queue, person: UUID) -> int:
    task = await _running(queue, person)
    assert await queue.call("wait_task", queue.worker, task, 1, "your yes", '{"turns": 2}')
    return task


async def _succeeded(queue: Queue, person: UUID) -> int:
    task = await _running(queue, person)
    assert await queue.finish(task, 1)
    return task


async def _failed(queue: Queue, person: UUID) -> int:
    task = await _running(queue, person)
    assert await queue.fail(task, 1, retryable=False)
    return task


async def _cancelled(queue: Queue, person: UUID) -> int:
    task = await _queued(queue, person)
    assert await queue.call("cancel_task", task) == "cancelled"
    return task


STATES: dict[str, Make] = {
    "scheduled": _scheduled,
    "held": _held,
    "queued": _queued,
    "running": _running,
    "cancelling": _cancelling,
    "waiting": _waiting,
    "succeeded": _succeeded,
    "failed": _failed,
    "cancelled": _cancelled,
}


async def _append(queue: Queue, task: int, attempt: int) -> object:
    return await queue.call(
        "append_events", queue.worker, task, attempt, '[{"seq": 1, "kind": "noted", "data": {}}]'
    )


async def _beat(queue: Queue, task: int, attempt: int) -> object:
    beat = json.dumps([{"id": task, "attempt": attempt}])
    return json.loads(await queue.call("heartbeat_tasks", queue.worker, beat, 30.0))[0]["status"]


async def _lost(queue: Queue, task: int, attempt: int) -> object:
    await queue.connection.execute(
        "update public.tasks set lease_until = now() - interval '1 s' where id = $1 and state = 'running'",
        task,
    )
    return await queue.claim(0, worker=uuid4())


ACTIONS: dict[str, Act] = {
    "finish": lambda queue, task, attempt: queue.finish(task, attempt),
    "fail for good": lambda queue, task, attempt: queue.fail(task, attempt, retryable=False),
    "fail": lambda queue, task, attempt: queue.fail(task, attempt, retryable=True),
    "release": lambda queue, task, attempt: queue.call("release_task", queue.worker, task, attempt),
    "confirm": lambda queue, task, attempt: queue.call("confirm_cancel", queue.worker, task, attempt),
    "wait": lambda queue, task, attempt: queue.call("wait_task", queue.worker, task, attempt, "a word", "{}"),
    "append": _append,
    "beat": _beat,
    "lost": _lost,
    "cancel": lambda queue, task, _: queue.call("cancel_task", task),
    "retry": lambda queue, task, _: queue.call("retry_task", task),
    "resume": lambda queue, task, _: queue.connection.fetchval("select pythonic.resume_task($1)", task),
}

LEGAL: dict[str, dict[str, str]] = {
    "scheduled": {"cancel": "cancelled"},
    "held": {"cancel": "cancelled"},
    "queued": {"cancel": "cancelled"},
    "running": {
        "finish": "succeeded",
        "fail for good": "failed",
        "fail": "scheduled",
        "release": "queued",
        "wait": "waiting",
        "lost": "queued",
    },
    "cancelling": {
        "finish": "succeeded",
        "fail for good": "cancelled",
        "fail": "cancelled",
        "confirm": "cancelled",
        "wait": "cancelled",
        "lost": "cancelled",
    },
    "waiting": {"cancel": "cancelled", "resume": "queued"},
    "succeeded": {"retry": "queued"},
    "failed": {"retry": "queued"},
    "cancelled": {"retry": "queued"},
}
"""What changes the state, and to what. Everything else leaves it as it was."""


@pytest.mark.parametrize("state", STATES)
async def test_from_a_state_only_what_is_legal_changes_it(queue: Queue, state: str) -> None:
    for name, act in ACTIONS.items():
        queue.name = f"q-{uuid4()}"
        person = await queue.person()
        task = await STATES[state](queue, person)
        before = await queue.task(task)
        try:
            said = await act(queue, task, before["attempt"])
        except asyncpg.InvalidParameterValueError as error:
            assert name == "retry", error
            assert "nothing to retry yet" in str(error)
            said = False
        after = await queue.task(task)
        wanted = LEGAL[state].get(name, before["state"])
        assert after["state"] == wanted, f"{name} from {state}"
        if before["state"] != "running" and name in ("release", "confirm", "append"):
            assert said is False, f"{name} from {state}"
        if name == "beat":
            wanted_beat = {"running": "ok", "cancelling": "cancel"}.get(state, "lost")
            assert said == wanted_beat, state
        if name not in LEGAL[state] and state not in ("running", "cancelling"):
            assert tuple(after) == tuple(before), f"{name} from {state} changed the row"
        assert (after["held_because"] is not None) == (after["state"] == "held")
        assert (after["waiting_for"] is not None) == (after["state"] == "waiting")


@pytest.mark.parametrize("state", ["running", "cancelling"])
async def test_who_does_not_hold_the_lease_changes_nothing(queue: Queue, state: str) -> None:
    task = await STATES[state](queue, await queue.person())
    before = await queue.task(task)
    mine = queue.worker
    for worker, attempt in ((uuid4(), 1), (mine, 0), (mine, 2)):
        queue.worker = worker
        for name in ("finish", "fail for good", "fail", "release", "confirm", "wait", "append"):
            assert not await ACTIONS[name](queue, task, attempt), name
        assert await _beat(queue, task, attempt) == "lost"
    assert tuple(await queue.task(task)) == tuple(before)


async def test_a_task_that_waits_holds_no_slot_and_goes_on_as_the_same_task(queue: Queue) -> None:
    person = await queue.person()
    await queue.connection.execute("update public.profiles set active_limit = 1 where id = $1", person)
    task, other = await queue.add(person), await queue.add(person)
    await queue.claim()
    assert await queue.call("wait_task", queue.worker, task, 1, "your yes", '{"turns": 2}')
    assert await queue.call("wait_task", queue.worker, task, 1, "your yes", "{}"), "the reply may be lost"
    row = await queue.task(task)
    assert (row["waiting_for"], json.loads(row["usage"]), row["failures"]) == ("your yes", {"turns": 2}, 0)
    assert await queue.state(other) == "queued", "what waits does not count as active"
    assert await queue.connection.fetchval("select pythonic.resume_task($1)", task) == "held"
    (claimed,) = await queue.claim()
    await queue.finish(other, claimed["attempt"])
    (again,) = await queue.claim()
    assert (again["id"], again["attempt"]) == (task, 2)


async def test_a_word_that_comes_before_the_wait_is_not_lost(queue: Queue) -> None:
    task = await _running(queue, await queue.person())
    assert await queue.connection.fetchval("select pythonic.resume_task($1)", task) == "running"
    assert await queue.call("wait_task", queue.worker, task, 1, "your yes", "{}")
    assert await queue.state(task) == "queued"
    (again,) = await queue.claim()
    assert await queue.call("wait_task", queue.worker, task, again["attempt"], "another", "{}")
    assert await queue.state(task) == "waiting", "the word was for the first wait only"


async def test_resuming_again_forgives_what_was_sent(queue: Queue) -> None:
    task = await _waiting(queue, await queue.person())
    await queue.connection.fetchval("select pythonic.resume_task($1, true)", task)
    assert (await queue.task(task))["asked_attempt"] == 1


async def test_the_backoff_doubles_a_fifth_more_or_less_and_ends_at_an_hour(queue: Queue) -> None:
    bounds = await queue.connection.fetch(
        """select n, pythonic.backoff_seconds(n, 0) as least, pythonic.backoff_seconds(n, 1) as most
        from generate_series(0, 100) n"""
    )
    for row in bounds[:10]:
        middle = 5 * 2 ** row["n"]
        assert row["least"] == pytest.approx(middle * 0.8)
        assert row["most"] == pytest.approx(middle * 1.2)
    for row in bounds[10:]:
        assert (row["least"], row["most"]) == (pytest.approx(2400), pytest.approx(3600))


async def test_a_failure_of_the_worker_and_of_the_run_spend_one_budget_and_a_release_none(
    queue: Queue,
) -> None:
    task = await queue.add(await queue.person(), max_failures=3)
    for _ in range(5):
        (claimed,) = await queue.claim()
        assert await queue.call("release_task", queue.worker, task, claimed["attempt"])
    await queue.claim()
    await _lost(queue, task, 6)
    (claimed,) = await queue.claim()
    assert await queue.fail(task, claimed["attempt"], retryable=True)
    row = await queue.task(task)
    assert (row["state"], row["attempt"], row["failures"]) == ("scheduled", 7, 2)
