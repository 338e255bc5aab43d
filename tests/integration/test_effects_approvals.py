"""Decisions of people on real PostgreSQL: theirs alone, once, for exactly what was shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.embedded_fixtures import RunningSupabase
from tests.integration.ledger_desk import Desk, become

pytestmark = pytest.mark.timeout(60)

MAIL = {"risk": "irreversible", "standing": {"tool": "send_message", "recipient": {"to": "Ann"}}}


@pytest.fixture
async def desk(embedded_supabase: RunningSupabase) -> AsyncIterator[Desk]:
    connection = await asyncpg.connect(embedded_supabase.database_url)
    made = Desk(connection, embedded_supabase.database_url)
    yield made
    await connection.execute("delete from auth.users where id = any($1)", made.people)
    await connection.close()


async def waiting(desk: Desk, person: Any, **effect: Any) -> tuple[int, int]:
    """A task that waits for a yes; returns it and the approval."""
    task = await desk.running(person)
    begun = await desk.begin(task, preview={"form": "fields", "fields": []}, **{**MAIL, **effect})
    assert begun["do"] == "ask"
    assert await desk.wait(task)
    return task, begun["approval"]


async def test_nobody_but_the_owner_sees_or_decides(desk: Desk) -> None:
    owner, other = await desk.person(), await desk.person()
    task, approval = await waiting(desk, owner)
    for table in ("approvals", "effects", "task_items"):
        query = f"select count(*) from public.{table} where task_id = $1"
        assert await desk.as_person(other, query, task) == 0
    assert await desk.as_person(owner, "select count(*) from public.approvals where task_id = $1", task) == 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="There is no question"):
        await desk.decide(other, approval, "approve")
    # Nor is there a way round the function, for people or for workers.
    for query in (
        "update public.approvals set state = 'approved'",
        "update public.effects set state = 'approved'",
        "insert into public.standing_rules (user_id, host, method) values (auth.uid(), 'a.example', 'POST')",
        "select pythonic.go_on(1)",
        "select public.begin_effect(gen_random_uuid(), 1, 1, '{}')",
        "select public.end_effect(gen_random_uuid(), 1, 1, 'k', 'succeeded')",
        "select pythonic.resume_task(1)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await desk.as_person(owner, query)
    async with desk.connection.transaction():
        await desk.connection.execute("set local role service_role")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await desk.connection.execute("update public.approvals set state = 'approved'")
    assert await desk.state(task) == "waiting"


async def test_the_second_decision_is_told_of_the_first(desk: Desk) -> None:
    person = await desk.person()
    task, approval = await waiting(desk, person)
    decided = await desk.decide(person, approval, "approve")
    assert (decided["state"], decided["task_state"]) == ("approved", "queued")
    with pytest.raises(asyncpg.PostgresError, match=rf"decided already: approved, on .* UTC, by {person}"):
        await desk.decide(person, approval, "refuse")
    (claimed,) = await desk.claim()
    assert (await desk.begin(task, claimed["attempt"], **MAIL))["do"] == "go"


async def test_of_two_decisions_at_once_one_counts(desk: Desk) -> None:
    person = await desk.person()
    task, approval = await waiting(desk, person)

    async def decide(decision: str) -> str:
        connection = await asyncpg.connect(desk.url)
        try:
            async with connection.transaction():
                await become(connection, person)
                await connection.fetchval("select public.decide_approval($1, $2)", approval, decision)
                await asyncio.sleep(0.2)  # the other one comes before this is committed
        except asyncpg.PostgresError as error:
            return str(error)
        else:
            return decision
        finally:
            await connection.close()

    said = await asyncio.gather(decide("approve"), decide("refuse"))
    won = [word for word in said if word in ("approve", "refuse")]
    assert len(won) == 1
    assert sum("decided already" in word for word in said) == 1
    assert await desk.effects(task) == [("send_message", "approved" if won == ["approve"] else "refused")]


async def test_a_yes_is_for_exactly_what_was_shown(desk: Desk) -> None:
    person = await desk.person()
    task, approval = await waiting(desk, person, arguments="to Ann")
    await desk.decide(person, approval, "approve")
    (claimed,) = await desk.claim()
    attempt = claimed["attempt"]
    # A runner that lies: other arguments under the approved key, another place, another how-many.
    key = (await desk.begin(task, attempt, arguments="to Bob", execution=2, **MAIL))["key"]
    assert key != f"s1/{'0' * 32}/1"
    forged = await desk.connection.fetchval(
        "select effect_key from public.effects where task_id = $1 and state = 'approved'", task
    )
    other = await desk.begin(task, attempt, arguments="to Eve", effect_key=forged, **MAIL)
    assert other["do"] == "refused"
    assert "Another action has this key" in other["why"]
    for where in ({"execution": 7}, {"step_id": "s2"}):
        assert (await desk.begin(task, attempt, arguments="to Eve", **{**MAIL, **where}))["do"] == "ask"
    changed = await desk.begin(task, attempt, arguments="to Zoe", **MAIL)
    assert changed["do"] == "refused", "the interrupted code comes with other arguments than were approved"
    assert (await desk.begin(task, attempt, arguments="to Ann", **MAIL))["do"] == "go"


async def test_always_is_for_one_recipient_and_one_person(desk: Desk) -> None:
    person, other = await desk.person(), await desk.person()
    _, approval = await waiting(desk, person)
    await desk.decide(person, approval, "approve", always=True)
    await desk.claim()
    task = await desk.running(person)
    assert (await desk.begin(task, **MAIL))["do"] == "go"
    to_bob = {"risk": "irreversible", "standing": {"tool": "send_message", "recipient": {"to": "Bob"}}}
    to_both = {
        "risk": "irreversible",
        "standing": {"tool": "send_message", "recipient": {"to": "Ann", "cc": "Bob"}},
    }
    other_tool = {"risk": "irreversible", "standing": {"tool": "pay", "recipient": {"to": "Ann"}}}
    for number, effect in enumerate((to_bob, to_both, other_tool)):
        assert (await desk.begin(task, arguments=str(number), **effect))["do"] == "ask"
    theirs = await desk.running(other)
    assert (await desk.begin(theirs, **MAIL))["do"] == "ask"
    await desk.as_person(person, "delete from public.standing_rules")
    assert (await desk.begin(task, arguments="later", **MAIL))["do"] == "ask"


async def test_what_names_nobody_cannot_be_allowed_for_good(desk: Desk) -> None:
    person = await desk.person()
    _, approval = await waiting(desk, person, standing=None)
    with pytest.raises(asyncpg.PostgresError, match="cannot be allowed for good"):
        await desk.decide(person, approval, "approve", always=True)
    for decision in ("happened", "answer", "", None):
        with pytest.raises(asyncpg.PostgresError, match=r"Decide with approve or refuse|Say what you decide"):
            await desk.decide(person, approval, decision)  # pyright: ignore[reportArgumentType]


async def test_what_nobody_decides_expires_and_the_task_goes_on_with_that(desk: Desk) -> None:
    person = await desk.person()
    task, approval = await waiting(desk, person)
    left = await desk.connection.fetchval(
        "select extract(epoch from expires_at - now()) from public.approvals where id = $1", approval
    )
    assert 6.9 < left / 86_400 <= 7
    await desk.connection.execute(
        "update public.approvals set expires_at = now() - interval '1 second' where id = $1", approval
    )
    assert await desk.connection.fetchval("select public.expire_approvals()") >= 1
    assert await desk.state(task) == "queued"
    (claimed,) = await desk.claim()
    refused = await desk.begin(task, claimed["attempt"], **MAIL)
    assert refused["do"] == "refused"
    assert refused["why"].startswith("Nobody decided about this in time")
    with pytest.raises(asyncpg.PostgresError, match="nobody decided in time"):
        await desk.decide(person, approval, "approve")


async def test_a_cancelled_task_asks_nothing_any_more(desk: Desk) -> None:
    person = await desk.person()
    task, approval = await waiting(desk, person)
    await desk.as_person(person, "select public.cancel_task($1)", task)
    assert await desk.state(task) == "cancelled"
    with pytest.raises(asyncpg.PostgresError, match="the task ended before"):
        await desk.decide(person, approval, "approve")
    assert await desk.effects(task) == [("send_message", "skipped")]


async def test_stop_ends_the_task(desk: Desk) -> None:
    person = await desk.person()
    task = await desk.running(person)
    begun = await desk.begin(task)
    attempt = await desk.interrupted(task)
    await desk.begin(task, attempt)
    asked = json.loads(
        await desk.connection.fetchval(
            "select public.ask_outcome($1, $2, $3, $4)", desk.worker, task, attempt, begun["key"]
        )
    )
    await desk.wait(task, attempt)
    decided = await desk.decide(person, asked["approval"], "stop")
    assert decided["task_state"] == "cancelled"


async def test_two_questions_of_one_task_are_both_answered_before_it_goes_on(desk: Desk) -> None:
    person = await desk.person()
    task = await desk.running(person)
    asked = [
        (
            await desk.begin(
                task, arguments=word, name="ask_person", risk="read", question=word, choices=choices
            )
        )
        for word, choices in (("Which?", ["red", "blue"]), ("Why?", []))
    ]
    await desk.wait(task)
    with pytest.raises(asyncpg.PostgresError, match="Choose one of the answers"):
        await desk.decide(person, asked[0]["approval"], "answer", "green")
    with pytest.raises(asyncpg.PostgresError, match="The answer is empty"):
        await desk.decide(person, asked[1]["approval"], "answer", "  ")
    await desk.decide(person, asked[0]["approval"], "answer", "blue")
    assert await desk.state(task) == "waiting"
    await desk.decide(person, asked[1]["approval"], "answer", "It is the sky.")
    (claimed,) = await desk.claim()
    given = await desk.begin(
        task, claimed["attempt"], arguments="Why?", name="ask_person", risk="read", question="Why?"
    )
    assert (given["do"], given["result"]) == ("done", "It is the sky.")
