"""The ledger of effects on real PostgreSQL: once, whatever is lost and whoever lies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.embedded_fixtures import RunningSupabase
from tests.integration.ledger_desk import Desk

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def desk(embedded_supabase: RunningSupabase) -> AsyncIterator[Desk]:
    connection = await asyncpg.connect(embedded_supabase.database_url)
    made = Desk(connection, embedded_supabase.database_url)
    yield made
    await connection.execute("delete from auth.users where id = any($1)", made.people)
    await connection.close()


async def test_an_effect_is_done_once_and_its_result_given_back(desk: Desk) -> None:
    task = await desk.running()
    begun = await desk.begin(task)
    assert begun["do"] == "go"
    assert await desk.end(task, begun["key"], result={"id": 7})
    assert await desk.end(task, begun["key"], result={"id": 7}), "the reply to the first may have been lost"
    for again in (await desk.begin(task, execution=2), await desk.begin(task, execution=2, rerun=True)):
        assert (again["do"], again["state"], again["result"]) == ("done", "succeeded", {"id": 7})
    deliberate = await desk.begin(task, ordinal=2)
    assert deliberate["do"] == "go"
    assert deliberate["idempotency_key"] != begun["idempotency_key"]
    assert await desk.effects(task) == [("send_message", "succeeded"), ("send_message", "started")]


async def test_the_same_beginning_may_be_written_twice(desk: Desk) -> None:
    task = await desk.running()
    first = await desk.begin(task, call="one")
    assert await desk.begin(task, call="one") == first
    assert (await desk.begin(task, call="two"))["do"] == "unknown"


async def test_who_lost_the_lease_begins_and_ends_nothing(desk: Desk) -> None:
    task = await desk.running()
    begun = await desk.begin(task)
    assert await desk.interrupted(task) == 2
    assert (await desk.begin(task, 1, ordinal=2))["do"] == "lost"
    assert (await desk.begin(task, 2, ordinal=2, worker=uuid4()))["do"] == "lost"
    assert not await desk.end(task, begun["key"])
    assert not await desk.end(task, begun["key"], attempt=2, worker=uuid4())
    assert not await desk.end(task, begun["key"], attempt=2), "it did not begin it, so it cannot know"
    assert await desk.effects(task) == [("send_message", "started")]


async def test_an_unknown_outcome_is_asked_about_and_never_repeated(desk: Desk) -> None:
    person = await desk.person()
    task = await desk.running(person)
    begun = await desk.begin(task)
    attempt = await desk.interrupted(task)
    met = await desk.begin(task, attempt)
    assert (met["do"], met["effect_key"]) == ("unknown", begun["key"])
    # Calling it one more time on purpose would be a way round: the first has to be settled before.
    assert (await desk.begin(task, attempt, ordinal=2))["do"] == "unknown"
    asked = json.loads(
        await desk.connection.fetchval(
            "select public.ask_outcome($1, $2, $3, $4, $5)", desk.worker, task, attempt, begun["key"], "{}"
        )
    )
    assert await desk.wait(task, attempt)
    assert await desk.state(task) == "waiting"
    await desk.decide(person, asked["approval"], "again")
    assert await desk.state(task) == "queued"
    (claimed,) = await desk.claim()
    again = await desk.begin(task, claimed["attempt"])
    assert (again["do"], again["idempotency_key"]) == ("go", begun["idempotency_key"])


async def test_an_outcome_that_a_person_has_seen_is_a_success(desk: Desk) -> None:
    person = await desk.person()
    task = await desk.running(person)
    begun = await desk.begin(task)
    attempt = await desk.interrupted(task)
    await desk.begin(task, attempt)
    asked = json.loads(
        await desk.connection.fetchval(
            "select public.ask_outcome($1, $2, $3, $4, $5)", desk.worker, task, attempt, begun["key"], "{}"
        )
    )
    # Decided before the attempt has come to wait: then it does not wait.
    await desk.decide(person, asked["approval"], "happened")
    assert await desk.wait(task, attempt)
    (claimed,) = await desk.claim()
    done = await desk.begin(task, claimed["attempt"])
    assert (done["do"], done["state"], done["result"]) == ("done", "succeeded", None)
    assert "has seen that this happened" in done["error"]


async def test_a_key_that_the_other_side_knows_is_sent_again(desk: Desk) -> None:
    task = await desk.running()
    begun = await desk.begin(task, repeatable=True, idempotency_key="chosen-by-code")
    attempt = await desk.interrupted(task)
    again = await desk.begin(task, attempt, repeatable=True, idempotency_key="another")
    assert (again["do"], again["idempotency_key"]) == ("go", "chosen-by-code")
    assert again["key"] == begun["key"]


async def test_a_failure_is_given_back_to_the_same_code_and_tried_again_by_a_fix(desk: Desk) -> None:
    task = await desk.running()
    begun = await desk.begin(task)
    await desk.end(task, begun["key"], "failed", error="no such recipient")
    attempt = await desk.interrupted(task)
    same = await desk.begin(task, attempt)
    assert (same["do"], same["state"], same["error"]) == ("done", "failed", "no such recipient")
    assert (await desk.begin(task, attempt, execution=2))["do"] == "go"


async def test_code_that_is_only_rebuilt_does_nothing_new(desk: Desk) -> None:
    task = await desk.running()
    refused = await desk.begin(task, rerun=True)
    assert refused["do"] == "refused"
    assert "rebuild" in refused["why"]
    assert await desk.effects(task) == []


async def test_other_arguments_after_an_interruption_are_not_done_on_a_guess(desk: Desk) -> None:
    person = await desk.person()
    task = await desk.running(person)
    begun = await desk.begin(task, arguments="at 10:00:01")
    await desk.end(task, begun["key"])
    attempt = await desk.interrupted(task)
    asked = await desk.begin(task, attempt, arguments="at 10:00:09")
    assert asked["do"] == "ask"
    question = await desk.connection.fetchval(
        "select question from public.approvals where id = $1", asked["approval"]
    )
    assert "Before it was interrupted, the same code did send_message" in question
    assert "approve only if this shall happen in addition" in question
    await desk.wait(task, attempt)
    await desk.decide(person, asked["approval"], "approve")
    # The arguments change with every run, so what was approved never comes: the code is told to hold still.
    (claimed,) = await desk.claim()
    changed = await desk.begin(task, claimed["attempt"], arguments="at 10:00:30")
    assert changed["do"] == "refused"
    assert "write them into the code as constants" in changed["why"]
    assert (await desk.begin(task, claimed["attempt"], arguments="at 10:00:30", execution=2))["do"] == "go"


async def test_a_loop_that_was_interrupted_goes_on_where_it_was(desk: Desk) -> None:
    task = await desk.running()
    for row in ("1", "2"):
        begun = await desk.begin(task, arguments=row)
        await desk.end(task, begun["key"], result=row)
    attempt = await desk.interrupted(task)
    answers = [(await desk.begin(task, attempt, arguments=row))["do"] for row in ("1", "2", "3")]
    assert answers == ["done", "done", "go"]


async def test_what_a_task_left_open_is_settled_when_it_ends(desk: Desk) -> None:
    task = await desk.running()
    await desk.begin(task, arguments="begun")
    await desk.begin(task, arguments="asked", risk="irreversible")
    await desk.connection.fetchval(
        "select public.fail_task($1, $2, 1, 'it broke', false, '[]', '{}')", desk.worker, task
    )
    assert await desk.effects(task) == [("send_message", "unknown"), ("send_message", "skipped")]
    states = await desk.connection.fetch("select state from public.approvals where task_id = $1", task)
    assert [row["state"] for row in states] == ["cancelled"]


@pytest.mark.parametrize("from_start", [False, True])
async def test_asking_again_repeats_what_was_done_only_from_the_start(
    desk: Desk, *, from_start: bool
) -> None:
    person = await desk.person()
    task = await desk.running(person)
    events: list[dict[str, Any]] = [
        {
            "seq": 1,
            "kind": "plan_made",
            "data": {"plan": {"steps": [{"id": "s1", "title": "t", "goal": "g", "depends_on": []}]}},
        },
        {"seq": 2, "kind": "item_added", "data": {"position": 0, "item": {"kind": "said", "text": "hello"}}},
    ]
    await desk.connection.fetchval(
        "select public.append_events($1, $2, 1, $3)", desk.worker, task, json.dumps(events)
    )
    begun = await desk.begin(task)
    await desk.end(task, begun["key"])
    await desk.connection.fetchval(
        "select public.fail_task($1, $2, 1, 'it broke', false, '[]', '{}')", desk.worker, task
    )
    await desk.as_person(person, "select public.retry_task($1, $2)", task, from_start)
    (claimed,) = await desk.claim()
    assert claimed["items"] == [], "the person wants another try, not the same conversation"
    assert (await desk.begin(task, claimed["attempt"]))["do"] == ("go" if from_start else "done")


@pytest.mark.parametrize("from_start", [False, True])
async def test_a_retry_that_was_cancelled_before_a_claim_may_be_tried_again(
    desk: Desk, *, from_start: bool
) -> None:
    person = await desk.person()
    task = await desk.running(person)
    await desk.connection.execute(
        "insert into public.task_steps (task_id, step_id, position, title, goal, attempt, user_id) "
        "values ($1, 's1', 1, 't', 'g', 1, $2)",
        task,
        person,
    )
    done = await desk.begin(task)
    await desk.end(task, done["key"])
    assert (await desk.begin(task, arguments="asked", risk="irreversible"))["do"] == "ask"
    await desk.connection.fetchval(
        "select public.fail_task($1, $2, 1, 'it broke', false, '[]', '{}')", desk.worker, task
    )
    await desk.as_person(person, "select public.retry_task($1, false)", task)
    assert await desk.as_person(person, "select public.cancel_task($1)", task) == "cancelled"
    await desk.as_person(person, "select public.retry_task($1, $2)", task, from_start)
    (claimed,) = await desk.claim()
    met = await desk.begin(task, claimed["attempt"])
    assert met["do"] == ("go" if from_start else "done")
    asked = await desk.begin(task, claimed["attempt"], arguments="asked", risk="irreversible")
    assert asked["do"] == "ask", "nobody has refused it"


async def test_the_conversation_is_handed_back_with_what_it_cost(desk: Desk) -> None:
    task = await desk.running()

    def item(seq: int, position: int, text: str, usage: dict[str, Any] | None = None) -> dict[str, Any]:
        data = {"position": position, "item": {"kind": "said", "text": text}, "data": None, "usage": usage}
        return {"seq": seq, "kind": "item_added", "data": data}

    async def append(attempt: int, *events: dict[str, Any]) -> None:
        assert await desk.connection.fetchval(
            "select public.append_events($1, $2, $3, $4)", desk.worker, task, attempt, json.dumps(events)
        )

    spent = {"turns": 1, "input_tokens": 10, "output_tokens": 5, "cost": 0.5}
    first, second = item(1, 0, "one"), item(2, 1, "two", spent)
    await append(1, first, second)
    await append(1, first)  # sent again after a crash of the database
    claimed = await claim_again(desk, task)
    assert [row["item"]["text"] for row in claimed["items"]] == ["one", "two"]
    assert claimed["spent"] == spent
    attempt = claimed["attempt"]
    await append(attempt, item(1, 1, "two anew", spent), item(2, 2, "three"))
    claimed = await claim_again(desk, task)
    assert [row["item"]["text"] for row in claimed["items"]] == ["one", "two anew", "three"]
    assert claimed["spent"] == {"turns": 2, "input_tokens": 20, "output_tokens": 10, "cost": 1.0}


async def claim_again(desk: Desk, task: int) -> dict[str, Any]:
    await desk.connection.execute(
        "update public.tasks set lease_until = now() - interval '1 second', failures = 0 where id = $1", task
    )
    (claimed,) = await desk.claim()
    return claimed


@pytest.mark.parametrize("lost", ["seen by the person", "too large"])
async def test_a_repetition_because_the_answer_is_gone_does_nothing(desk: Desk, lost: str) -> None:
    person = await desk.person()
    task = await desk.running(person)
    begun = await desk.begin(task, kind="request", name="POST api.example.org/v1/items")
    if lost == "too large":
        await desk.end(task, begun["key"], result={"status": 201, "headers": [], "too_large": True})
        deliberate = await desk.begin(task, kind="request", name="POST api.example.org/v1/items", ordinal=2)
        assert deliberate["do"] == "go", "this very code had the answer, so it means it"
        await desk.end(task, deliberate["key"], result={"status": 201, "headers": [], "too_large": True})
        attempt = await desk.interrupted(task)
    else:
        attempt = await desk.interrupted(task)
        await desk.begin(task, attempt, kind="request", name="POST api.example.org/v1/items")
        asked = json.loads(
            await desk.connection.fetchval(
                "select public.ask_outcome($1, $2, $3, $4, $5)",
                desk.worker,
                task,
                attempt,
                begun["key"],
                "{}",
            )
        )
        assert await desk.wait(task, attempt)
        await desk.decide(person, asked["approval"], "happened")
        (claimed,) = await desk.claim()
        attempt = claimed["attempt"]
    before = await desk.effects(task)
    for ordinal in range(1, 5):
        again = await desk.begin(
            task, attempt, kind="request", name="POST api.example.org/v1/items", ordinal=ordinal
        )
        assert (again["do"], again["state"]) == ("done", "succeeded"), ordinal
    assert await desk.effects(task) == before
