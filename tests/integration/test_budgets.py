"""Budgets that the queue keeps, the ledger of usage and the prices, in the database and over the API."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest

from pythonic_assistant.wire import ModelConfig
from tests.integration.attempt_world import World
from tests.integration.callers import Someone
from tests.integration.queue_calls import Queue

pytestmark = pytest.mark.timeout(60)


def replied(seq: int, cost: float | None, tokens: int = 1000) -> dict[str, Any]:
    usage = {
        "turns": 1,
        "input_tokens": tokens - 100,
        "cached_tokens": 600,
        "output_tokens": 100,
        "cost": cost,
    }
    return {"seq": seq, "kind": "model_replied", "data": {"purpose": "code", "seconds": 1, "usage": usage}}


async def spend(queue: Queue, task: dict[str, Any], *costs: float | None, tokens: int = 1000) -> None:
    started = {"seq": 1, "kind": "run_started", "data": {"model": "m-1", "sandbox": "none"}}
    events = [started, *(replied(seq, cost, tokens) for seq, cost in enumerate(costs, start=2))]
    for _ in range(2):  # a batch whose answer was lost comes twice
        assert await queue.call(
            "append_events", queue.worker, task["id"], task["attempt"], json.dumps(events)
        )


async def test_a_day_that_is_spent_holds_what_waits_and_a_raised_budget_lets_it_go_on(queue: Queue) -> None:
    person, other = await queue.person(), await queue.person()
    change = "update public.profiles set {} where id = $1"
    await queue.connection.execute(change.format("daily_cost = 0.05, time_zone = 'Europe/Berlin'"), person)
    running, waiting, others = await queue.add(person), await queue.add(person), await queue.add(other)
    task = next(found for found in await queue.claim(1) if found["id"] == running)

    await spend(queue, task, 0.04)
    assert await queue.state(waiting) == "queued"
    await queue.call(
        "append_events", queue.worker, running, 1, json.dumps([replied(3, 0.01), replied(4, None)])
    )
    row = await queue.task(waiting)
    assert (row["state"], row["held_because"]) == (
        "held",
        "Your budget of $0.05 a day is spent; this task starts after midnight (Europe/Berlin), "
        "or when you raise the budget.",
    )
    later = await queue.add(person)
    assert await queue.state(later) == "held"
    assert await queue.state(running) == "running", "what runs goes on to its own limit"
    assert await queue.state(others) == "queued"
    (claimed,) = await queue.claim(10)
    assert claimed["id"] == others, "nothing of a day that is spent is handed out"

    spent = json.loads(await queue.connection.fetchval("select pythonic.spend_of($1)", person))
    assert (spent["cost"], spent["tokens"], spent["unpriced"], spent["replies"]) == (0.05, 3000, 1, 3)
    await queue.connection.execute(change.format("daily_cost = 0.06"), person)
    assert [await queue.state(each) for each in (waiting, later)] == ["queued", "queued"]
    await queue.connection.execute(change.format("daily_tokens = 2000"), person)
    row = await queue.task(waiting)
    assert row["held_because"].startswith("Your budget of 2,000 tokens a day is spent;"), row["held_because"]
    await queue.connection.execute(change.format("daily_tokens = null, most_daily_cost = 0.02"), person)
    await queue.claim(10)  # the upkeep of a claim
    reason = await queue.connection.fetchval("select pythonic.admission_problem($1)", person)
    assert reason == (
        "The budget of $0.02 a day that the operator gives you is spent; this task starts after midnight "
        "(UTC)."
    )
    # The day changes: what was spent is of yesterday.
    await queue.connection.execute(
        "update public.usage set at = at - interval '1 day' where user_id = $1", person
    )
    for _ in range(40):
        if await queue.state(waiting) == "running":
            break
        await queue.claim(10)
    assert await queue.state(waiting) == "running"


async def test_no_time_zone_moves_the_day_of_the_operators_budget(queue: Queue) -> None:
    person = await queue.person()
    await queue.add(person)
    (task,) = await queue.claim(1)
    await spend(queue, task, 0.05)
    await queue.connection.execute(
        "update public.profiles set most_daily_cost = 0.02, most_daily_tokens = 500 where id = $1", person
    )
    # For each hour a zone whose day begins with it.
    zones = [*(f"Etc/GMT+{hours}" for hours in range(1, 13)), *(f"Etc/GMT-{hours}" for hours in range(15))]
    for before, spent in (("0 seconds", True), ("1 second", False)):
        await queue.connection.execute(
            "update public.usage set at = date_trunc('day', now(), 'UTC') - $2::text::interval "
            "where user_id = $1",
            person,
            before,
        )
        for zone in zones:
            await queue.connection.execute(
                "update public.profiles set time_zone = $2 where id = $1", person, zone
            )
            reason = await queue.connection.fetchval("select pythonic.admission_problem($1)", person)
            assert (reason is not None) is spent, (before, zone, reason)
            assert not spent or reason.endswith("(UTC)."), reason


async def test_the_usage_of_a_task_is_the_sum_of_its_attempts_and_outlives_it(queue: Queue) -> None:
    person = await queue.person()
    identifier = await queue.add(person)
    (first,) = await queue.claim(1)
    assert not first["spent"].get("cost")
    await spend(queue, first, 0.25, None)
    await queue.call("release_task", queue.worker, identifier, first["attempt"])
    (second,) = await queue.claim(1)
    assert second["spent"] == {"turns": 2, "input_tokens": 1800, "output_tokens": 200, "cost": 0.25}
    await spend(queue, second, 0.5)
    assert await queue.finish(identifier, second["attempt"])
    total = json.loads((await queue.task(identifier))["usage"])
    # A finish that tells of no usage changes nothing; the next end of an attempt does.
    assert total == {}
    await queue.connection.execute("select public.retry_task($1)", identifier)
    (third,) = await queue.claim(1)
    assert not third["spent"].get("cost"), "a person asked again"
    await queue.call(
        "fail_task", queue.worker, identifier, third["attempt"], "no", False, "[]", '{"turns": 0}'
    )
    total = json.loads((await queue.task(identifier))["usage"])
    assert total == {
        "turns": 3,
        "input_tokens": 2700,
        "cached_tokens": 1800,
        "output_tokens": 300,
        "cost": 0.75,
        "unpriced": 1,
    }
    await queue.connection.execute("delete from public.tasks where id = $1", identifier)
    rows = await queue.connection.fetch("select * from public.spend_by_day where user_id = $1", person)
    assert [(row["model"], row["replies"], float(row["cost"]), row["unpriced"]) for row in rows] == [
        ("m-1", 3, 0.75, 1)
    ]


async def test_prices_have_a_source_and_the_newest_that_has_begun_counts(queue: Queue) -> None:
    async with queue.connection.transaction():
        assert await queue.connection.fetchval("select count(*) from public.prices where source = ''") == 0
        add = """insert into public.prices (model, input_per_million, output_per_million, valid_from)
            values ($1, $2, 1, $3::text::date)"""
        for price, day in ((1, "2026-01-01"), (2, "2026-02-01"), (3, "2126-01-01")):
            await queue.connection.execute(add, "m-prices", price, day)
        price = "select input_per_million from public.current_prices where model = 'm-prices'"
        assert await queue.connection.fetchval(price) == 2
        await queue.connection.execute("delete from public.prices where model = 'm-prices'")
    with pytest.raises(
        asyncpg.InvalidParameterValueError, match="There is no time zone 'Europe/Nowhere': write it like"
    ):
        await queue.connection.execute(
            "update public.profiles set time_zone = 'Europe/Nowhere' where id = $1", await queue.person()
        )


async def test_a_run_is_told_the_price_and_what_earlier_attempts_spent(world: World) -> None:
    program = """
    budget = request["budget"]
    note(json.dumps([request["price"] and request["price"]["output_per_million"], budget["cost"]]))
    note(json.dumps(request["spent"]))
    emit("model_replied", purpose="plan", seconds=1.0, usage={"turns": 1, "input_tokens": 5, "cost": 0.5})
    succeed()
    """

    async def told(model: str, **columns: Any) -> list[Any]:
        task = await world.ask(**columns)
        row = await world.work(program, model=ModelConfig(model=model))
        assert row["state"] == "succeeded", row["error"]
        assert json.loads(row["usage"])["cost"] == 0.5
        return [event["text"] for event in await world.events(task) if event["kind"] == "noted"]

    (price, spent) = await told("gpt-6-luna-2026-09-22", limits='{"cost": 0.75}')
    assert json.loads(price) == [0.5, 0.75]
    assert json.loads(spent)["cost"] is None
    (warning, price, _) = await told("m-nobody-knows", limits='{"cost": 0.75}')
    assert json.loads(price) == [None, 0.75]
    assert warning.startswith("Nobody has written down what m-nobody-knows costs, so the limit of $0.75")
    (capped, price, _) = await told("gpt-6-luna", limits='{"cost": 5000}')
    assert json.loads(price) == [0.5, 100.0]
    assert capped == "The limit cost is $100.00, not $5,000.00: more this worker does not allow."


def test_people_see_their_own_spending_and_set_their_own_budget_alone(ann: Someone, bob: Someone) -> None:
    own = {"daily_cost": 2.5, "daily_tokens": 100000, "time_zone": "America/New_York"}
    assert ann.patch(f"profiles?id=eq.{ann.id}", own).status_code == 204
    spent = ann.rpc("own_spend").json()
    assert {name: spent[name] for name in own} == own
    assert (spent["cost"], spent["tokens"]) == (0, 0)
    assert bob.rpc("own_spend").json()["daily_cost"] is None
    for column in ("most_daily_cost", "most_daily_tokens"):
        assert ann.patch(f"profiles?id=eq.{ann.id}", {column: 5000}).status_code in (401, 403)
    ann.patch(f"profiles?id=eq.{bob.id}", {"daily_cost": 1})
    assert bob.rpc("own_spend").json()["daily_cost"] is None
    usage = {"user_id": ann.id, "attempt": 1, "seq": 1, "cost": 0}
    assert ann.post("usage", usage).status_code in (401, 403)
    price = {"model": "m", "input_per_million": 0, "output_per_million": 0}
    assert ann.post("prices", price).status_code in (401, 403)
    (price,) = ann.get("current_prices?model=eq.gpt-6-luna&select=output_per_million").json()
    assert float(price["output_per_million"]) == 0.5
    refused = ann.post("tasks", {"prompt": "p", "limits": {"cost": 0.001}})
    assert "The limit cost is 0.001: write US dollars, at least 0.01." in refused.text
