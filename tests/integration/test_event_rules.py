"""Changes of state, rules and deliveries as the database keeps them.

Long, because all of it is one world of rules, from the change to the dead letter.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from pythonic_assistant.domain.rule import FIELDS, LONGEST_CHAIN, STATES, TRIES, VERDICTS
from tests.embedded_fixtures import RunningSupabase
from tests.integration.rules_world import HOST, URL, RulesWorld

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def world(embedded_supabase: RunningSupabase) -> AsyncIterator[RulesWorld]:
    made = RulesWorld(await asyncpg.connect(embedded_supabase.database_url))
    await made.begin()
    yield made
    await made.end()


async def claim(world: RulesWorld, *, mail: bool = False, worker: UUID | None = None) -> list[dict[str, Any]]:
    """Claim deliveries; those of other tests are none of ours."""
    reply = await world.connection.fetchval(
        "select public.claim_deliveries($1, $2, '{}', 50, 60)", worker or world.worker, mail
    )
    return [row for row in json.loads(reply)["deliveries"] if row["user_id"] == str(world.person)]


async def test_every_change_of_state_is_a_row_whoever_made_it(world: RulesWorld) -> None:
    database = world.connection
    finished = await world.task("finish it")
    await world.claim()
    await database.execute(
        "select public.finish_task($1, $2, 1, 'yes', 'unverified', '[]', '{}')", world.worker, finished
    )
    await database.execute("select public.retry_task($1, true)", finished)
    await database.execute("select public.cancel_task($1)", finished)
    assert await world.changes(finished) == [
        (None, "queued", "asked"),
        ("queued", "running", "claimed"),
        ("running", "succeeded", "finished"),
        ("succeeded", "queued", "retried"),
        ("queued", "cancelled", "cancelled"),
    ]

    failed = await world.fail("fail it", retryable=True)
    await database.execute("update public.tasks set run_at = now() where id = $1", failed)
    await world.claim()
    await database.execute("select public.release_task($1, $2, 2)", world.worker, failed)
    await world.claim()
    await database.execute(
        "update public.tasks set lease_until = now() - interval '1 s' where id = $1", failed
    )
    await database.execute("select public.claim_tasks($1, $2, 0, 30, '[]')", uuid4(), world.queue)
    # By hand, as in the dashboard.
    await database.execute(
        "update public.tasks set state = 'held', held_because = 'by hand' where id = $1", failed
    )
    await database.execute(
        "update public.tasks set state = 'queued', held_because = null where id = $1", failed
    )
    assert await world.changes(failed) == [
        (None, "queued", "asked"),
        ("queued", "running", "claimed"),
        ("running", "scheduled", "tried_again_later"),
        ("scheduled", "queued", "due"),
        ("queued", "running", "claimed"),
        ("running", "queued", "released"),
        ("queued", "running", "claimed"),
        ("running", "queued", "worker_lost"),
        ("queued", "held", "changed"),
        ("held", "queued", "room_made"),
    ]
    detail = await database.fetchval(
        "select detail from public.task_changes where task_id = $1 and why = 'tried_again_later'", failed
    )
    assert detail == "it broke"
    before = len(await world.changes(failed))
    await database.execute("update public.tasks set priority = 3 where id = $1", failed)
    assert len(await world.changes(failed)) == before, "nothing else is a change of state"

    assert await world.as_person("select count(*) from public.task_changes") == 15
    stranger = uuid4()
    await database.execute("insert into auth.users (id, email) values ($1, 'x@y.example')", stranger)
    assert await world.as_person("select count(*) from public.task_changes", who=stranger) == 0
    assert await world.as_person("select count(*) from public.deliveries", who=stranger) == 0
    assert await world.as_person("select count(*) from public.event_rules", who=stranger) == 1, (
        "the default one"
    )
    await database.execute("delete from auth.users where id = $1", stranger)


async def test_a_change_that_is_undone_leaves_no_event(world: RulesWorld) -> None:
    rule = await world.rule()
    with pytest.raises(ZeroDivisionError):
        async with world.connection.transaction():
            await world.fail()
            assert len(await world.deliveries(rule)) == 1
            raise ZeroDivisionError
    assert await world.deliveries(rule) == []


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({}, ["task.queued", "task.running", "task.failed", "task.queued", "task.running", "task.succeeded"]),
        ({"states": ["failed", "succeeded"]}, ["task.failed", "task.succeeded"]),
        ({"verdicts": ["unverified"]}, ["task.succeeded"]),
        ({"states": ["failed"], "assistants": ["00000000-0000-4000-8000-000000000001"]}, ["task.failed"]),
        ({"states": ["failed"], "assistants": ["00000000-0000-4000-8000-000000000002"]}, []),
        ({"states": ["failed"], "labels": ["gpu"]}, []),
    ],
)
async def test_a_pattern_chooses_changes(
    world: RulesWorld, pattern: dict[str, Any], expected: list[str]
) -> None:
    rule = await world.rule(pattern=pattern)
    await world.fail("one")
    done = await world.task("two")
    await world.claim()
    await world.connection.execute(
        "select public.finish_task($1, $2, 1, 'yes', 'unverified', '[]', '{}')", world.worker, done
    )
    probe = await world.task("Test of the connection", kind="probe")
    await world.connection.execute("select public.cancel_task($1)", probe)
    found = [row["event"] for row in await world.deliveries(rule)]
    assert sorted(found) == sorted(expected)


async def test_a_mistake_is_one_sentence(world: RulesWorld) -> None:
    await world.rule("There")
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"pattern": {"state": ["failed"]}},
            "no pattern key 'state'; the keys are assistants, labels, states, verdicts",
        ),
        ({"pattern": {"states": ["done"]}}, "no state 'done'"),
        ({"pattern": {"states": "failed"}}, "no list"),
        ({"pattern": {"verdicts": [1]}}, "no list"),
        ({"pattern": {"labels": ["GPU"]}}, "no label"),
        ({"pattern": []}, "as an object"),
        ({"target": {"url": "http://hooks.example.org/x"}}, "write https://"),
        ({"target": {"url": "https://me:pw@hooks.example.org/x"}}, "user's name or a password"),
        ({"target": {"url": "https://127.0.0.1/x"}}, "is an address"),
        ({"target": {"url": "https://localhost/x"}}, "is no host name"),
        ({"target": {"url": "https://hooks.example.org:8443/x"}}, "leave it out"),
        ({"target": {"url": "https://hooks.example.org/x#y"}}, "behind #"),
        ({"target": {"url": "https://hooks.example.org/x y"}}, "blanks"),
        ({"target": {"url": "https://other.example.org/x"}}, "no secret SIGN for the host other.example.org"),
        ({"target": {"url": URL, "method": "PUT"}}, "no key 'method'"),
        ({"target": {}}, "Write the address"),
        ({"secret": None}, "Name the secret"),
        ({"secret": "OTHER"}, "no secret OTHER"),
        ({"name": "there"}, "There is a rule 'there' already"),
        ({"name": " "}, "name of 1 to 100"),
        ({"action": "sms"}, "no action 'sms'"),
        ({"action": "email", "target": {"to": "nobody"}}, "no e-mail address"),
        ({"action": "email", "target": {"to": "a@b.org\nBcc: x@y.org"}}, "no e-mail address"),
        ({"action": "email", "secret": "SIGN"}, "Only webhooks are signed"),
        ({"action": "task", "target": {"prompt": "{answr}"}}, "{answr}"),
        ({"action": "task", "target": {"prompt": "a } b"}}, "fields are {prompt}"),
        ({"action": "task", "target": {"prompt": " "}}, "is empty"),
        ({"action": "task", "target": {"prompt": "x", "same_thread": "yes"}}, "true or false"),
        ({"action": "task", "target": {"prompt": "x", "assistant": str(uuid4())}}, "does not exist"),
    ]
    for columns, sentence in cases:
        with pytest.raises(asyncpg.PostgresError) as caught:
            await world.rule(**columns)
        assert sentence in str(caught.value), columns
        assert caught.value.sqlstate == "22023"
    # The action stays, and so does the bond between secret and host.
    with pytest.raises(asyncpg.PostgresError, match="no secret SIGN"):
        await world.as_person(
            "update public.event_rules set target = $1 where name = 'There'",
            '{"url": "https://evil.example.net/"}',
        )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await world.as_person("update public.event_rules set action = 'email' where name = 'There'")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await world.as_person("update public.deliveries set state = 'pending'")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await world.as_person("select public.claim_deliveries($1, true, '{}', 9, 9)", uuid4())


async def test_the_words_of_the_program_are_those_of_the_database(world: RulesWorld) -> None:
    source = await world.connection.fetchval(
        "select string_agg(pg_get_functiondef(p.oid), '') from pg_proc p "
        "join pg_namespace n on n.oid = pronamespace where nspname = 'pythonic' "
        "and proname in ('pattern_problem', 'template_problem', 'fail_delivery')"
    )
    assert json.dumps(list(STATES)) in source
    assert json.dumps(list(VERDICTS)) in source
    assert f"({'|'.join(FIELDS)})" in source
    assert f"v_failed.tries < {TRIES}" in source
    assert LONGEST_CHAIN == 3


async def test_tries_back_off_and_end_as_a_dead_letter_that_can_be_sent_again(world: RulesWorld) -> None:
    rule = await world.rule()
    await world.fail()
    waits: list[float] = []
    for number in range(1, TRIES + 1):
        await world.due()
        (row,) = await claim(world)
        assert await claim(world) == [], "one worker at a time"
        held = (world.worker, UUID(row["id"]), row["fence"])
        stale = (world.worker, UUID(row["id"]), row["fence"] - 1)
        for refused in (stale, (uuid4(), *held[1:])):
            query = "select public.finish_delivery($1, $2, $3, 200)"
            assert await world.connection.fetchval(query, *refused) is False
        failed = "select public.fail_delivery($1, $2, $3, 'no answer', true, null)"
        assert await world.connection.fetchval(failed, *held) is True
        assert await world.connection.fetchval(failed, *held) is False
        (left,) = await world.deliveries(rule)
        if number < TRIES:
            waits.append((left["next_try_at"] - datetime.now(UTC)).total_seconds())
    for number, wait in enumerate(waits):
        middle = min(5 * 2**number, 3600)
        assert 0.8 * middle - 2 <= wait <= 1.2 * middle, f"try {number + 1} waits {wait}"
    assert (left["state"], left["tries"], left["last_error"]) == ("dead", TRIES, "no answer")
    await world.due()
    assert await claim(world) == []

    assert await world.as_person("select public.resend_delivery($1)", left["id"]) == "pending"
    (again,) = await claim(world)
    assert again["id"] == str(left["id"]), "under its own id"
    await world.connection.execute(
        "select public.finish_delivery($1, $2, $3, 204)", world.worker, left["id"], again["fence"]
    )
    (done,) = await world.deliveries(rule)
    assert (done["state"], done["response_status"], done["last_error"], done["tries"]) == (
        "delivered",
        204,
        None,
        1,
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="no such delivery of yours"):
        stranger = await world.connection.fetchval(
            "insert into auth.users (id, email) values ($1, $2) returning id", uuid4(), f"{uuid4()}@z.example"
        )
        await world.as_person("select public.resend_delivery($1)", left["id"], who=stranger)


async def test_a_lost_worker_leaves_its_delivery_to_others(world: RulesWorld) -> None:
    await world.rule()
    await world.fail()
    (lost,) = await claim(world)
    other = uuid4()
    await world.connection.execute(
        "update public.deliveries set lease_until = now() - interval '1 s' where id = $1", UUID(lost["id"])
    )
    assert await claim(world, worker=other) == [], "it waits like after any failure"
    await world.due()
    (taken,) = await claim(world, worker=other)
    assert (taken["id"], taken["fence"]) == (lost["id"], lost["fence"] + 1)
    late = "select public.finish_delivery($1, $2, $3, 200)"
    assert await world.connection.fetchval(late, world.worker, UUID(lost["id"]), lost["fence"]) is False


async def test_what_a_lost_worker_had_of_a_paused_rule_is_not_sent(world: RulesWorld) -> None:
    rule = await world.rule()
    await world.fail()
    (lost,) = await claim(world)
    await world.as_person("update public.event_rules set enabled = false where id = $1", rule)
    await world.connection.execute(
        "update public.deliveries set lease_until = now() - interval '1 s' where id = $1", UUID(lost["id"])
    )
    assert await claim(world) == []
    (dead,) = await world.deliveries(rule)
    assert (dead["state"], dead["worker_id"]) == ("dead", None)
    assert dead["finished_at"] is not None
    assert dead["last_error"] == "The worker that delivered this was lost. The rule was paused."
    await world.due()
    assert await claim(world) == []


async def test_a_delivery_goes_to_one_of_many_workers(
    world: RulesWorld, embedded_supabase: RunningSupabase
) -> None:
    await world.rule()
    for _ in range(20):
        await world.connection.execute(
            "select public.test_rule((select id from public.event_rules where name = 'R' and user_id = $1))",
            world.person,
        )

    async def take() -> list[str]:
        connection = await asyncpg.connect(embedded_supabase.database_url)
        try:
            reply = await connection.fetchval(
                "select public.claim_deliveries($1, false, '{}', 8, 60)", uuid4()
            )
            return [
                row["id"] for row in json.loads(reply)["deliveries"] if row["user_id"] == str(world.person)
            ]
        finally:
            await connection.close()

    taken = [name for names in await asyncio.gather(*(take() for _ in range(4))) for name in names]
    assert len(taken) == len(set(taken)) == 20


async def test_pausing_stops_what_waits_and_a_test_is_delivered_like_an_event(world: RulesWorld) -> None:
    rule = await world.rule()
    await world.fail()
    await world.as_person("update public.event_rules set enabled = false where id = $1", rule)
    (dead,) = await world.deliveries(rule)
    assert (dead["state"], dead["last_error"]) == ("dead", "The rule was paused.")
    await world.fail()
    assert len(await world.deliveries(rule)) == 1, "a paused rule makes nothing"
    with pytest.raises(asyncpg.PostgresError, match="paused"):
        await world.as_person("select public.test_rule($1)", rule)
    with pytest.raises(asyncpg.PostgresError, match="paused"):
        await world.as_person("select public.resend_delivery($1)", dead["id"])
    await world.as_person("update public.event_rules set enabled = true where id = $1", rule)
    made = await world.as_person("select public.test_rule($1)", rule)
    (row,) = [row for row in await claim(world) if row["id"] == str(made)]
    assert (row["event"], row["payload"]["data"]["rule"]) == ("rule.test", "R")
    await world.as_person("delete from public.event_rules where id = $1", rule)
    assert await world.deliveries(rule) == []


async def start(world: RulesWorld, row: dict[str, Any], prompt: str = "go on") -> int | None:
    return await world.connection.fetchval(
        "select public.start_caused_task($1, $2, $3, $4)", world.worker, UUID(row["id"]), row["fence"], prompt
    )


async def test_a_rule_never_answers_what_it_caused_and_a_chain_ends_at_three(world: RulesWorld) -> None:
    rules = [await world.rule(f"R{number}", "task") for number in range(5)]
    first = await world.fail("begin")
    depths: dict[int, int] = {first: 0}
    chain_ends: list[str] = []
    for _ in range(100):
        rows = await claim(world)
        if not rows:
            break
        for row in rows:
            cause = row["payload"]["data"]["task_id"]
            try:
                made = await start(world, row)
            except asyncpg.PostgresError as error:
                chain_ends.append(str(error))
                assert depths[cause] == LONGEST_CHAIN
                fail = "select public.fail_delivery($1, $2, $3, $4, false, null)"
                await world.connection.execute(fail, world.worker, UUID(row["id"]), row["fence"], str(error))
                continue
            assert made is not None
            assert await start(world, row) is None, "once"
            depths[made] = depths[cause] + 1
            task = await world.connection.fetchrow("select * from public.tasks where id = $1", made)
            assert (task["caused_by"], len(task["caused_by_rules"])) == (cause, depths[made])
            assert len(set(task["caused_by_rules"])) == depths[made], "no rule twice in a chain"
            if depths[made] < LONGEST_CHAIN and made % 3:
                continue  # a few are enough
            await world.connection.execute(
                "update public.profiles set active_limit = 1000 where id = $1", world.person
            )
            for claimed in await world.claim():
                await world.fail_claimed(claimed["id"], claimed["attempt"])
    assert max(depths.values()) == LONGEST_CHAIN
    assert chain_ends and all("the third in a chain" in sentence for sentence in chain_ends)
    assert len(rules) == 5
    why = await world.connection.fetchval(
        "select why from public.task_changes where task_id = $1 order by id limit 1", max(depths)
    )
    assert why == "asked_by_rule"


async def test_a_rule_alone_answers_once(world: RulesWorld) -> None:
    rule = await world.rule("Again", "task", target={"prompt": "again", "same_thread": True})
    first = await world.fail("begin")
    (row,) = await claim(world)
    second = await start(world, row)
    await world.claim()
    await world.fail_claimed(second)
    assert len(await world.deliveries(rule)) == 1
    threads = await world.connection.fetch(
        "select distinct thread_id from public.tasks where id in ($1, $2)", first, second
    )
    assert len(threads) == 1
    with pytest.raises(asyncpg.PostgresError, match="started once only"):
        await world.as_person("select public.resend_delivery($1)", UUID(row["id"]))


async def test_an_owner_is_told_by_mail_as_soon_as_mail_is_set_up(world: RulesWorld) -> None:
    default = await world.as_person("select id from public.event_rules")
    own = await world.rule("Mail", "email")
    other = await world.rule("Other", "email", target={"to": f"boss@{HOST}"})
    problem = await world.as_person("select public.mail_problem()")
    assert "PYTHONIC_SMTP_URL and PYTHONIC_MAIL_FROM" in problem
    await world.fail()
    assert await world.deliveries(default) == [], "nobody set e-mail up: no dead letters of it"
    (dead,) = await world.deliveries(own)
    assert (dead["state"], dead["last_error"]) == ("dead", problem), (
        "a rule of one's own says at once what is missing"
    )

    await world.mail_is_set_up()
    assert await world.as_person("select public.mail_problem()") is None
    assert "PYTHONIC_MAIL_TO" in await world.as_person("select public.mail_problem($1)", f"boss@{HOST}")
    await world.fail()
    rows = {row["rule"]: row for row in await claim(world, mail=True)}
    assert rows["Tell me when a task fails"]["to"] == f"{world.person}@mail.pythonic.dev"
    assert "Other" not in rows
    assert [row["state"] for row in await world.deliveries(other)] == ["dead", "dead"]
    await world.mail_is_set_up(f"@{HOST}")
    await world.as_person("select public.resend_delivery($1)", (await world.deliveries(other))[1]["id"])
    assert await claim(world, mail=False) == [], "left to workers that can"
    (row,) = await claim(world, mail=True)
    assert row["to"] == f"boss@{HOST}"

    await world.connection.execute(
        "update auth.users set email_confirmed_at = null where id = $1", world.person
    )
    assert "no confirmed address" in await world.as_person("select public.mail_problem()")
    await world.connection.execute(
        "update auth.users set email = $2 where id = $1", world.person, f"{world.person}@example.com"
    )
    await world.mail_is_set_up(f"@{HOST}", f"me@{HOST}")
    assert await world.as_person("select public.mail_problem()") is None, (
        "a made-up address: the operator's own"
    )


async def test_a_flood_of_mail_is_dammed(world: RulesWorld) -> None:
    await world.mail_is_set_up()
    rule = await world.rule("Mail", "email")
    for _ in range(22):
        await world.as_person("select public.test_rule($1)", rule)
    states = [row["state"] for row in await world.deliveries(rule)]
    assert (states.count("pending"), states.count("dead")) == (20, 2)
