"""One attempt from the claim to the rows: real database, real Storage, a runner's process that misbehaves."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from pythonic_assistant.adapters.secrets.keyring import key_of
from pythonic_assistant.adapters.secrets.vault import generate_key
from pythonic_assistant.adapters.store.supabase_secrets import SupabaseSecrets
from tests.integration.attempt_world import World
from worker.publishing import publish

pytestmark = pytest.mark.timeout(60)
RAW, SWAPPED = "raw-canary-c0ffee", "swapped-canary-4711"
LEAKY = f"""
raw = environment["DB_PASSWORD"]
assert raw == {RAW!r}
assert {SWAPPED!r} not in json.dumps(order), "the runner never gets what the proxy puts in"
note("placeholder " + environment["TOKEN"])
emit("output_written", step_id="s1", execution=1, stream="stdout", text="it is " + raw[:7])
time.sleep(0.2)
emit("output_written", step_id="s1", execution=1, stream="stdout", text=raw[7:] + " yes")
emit("code_executed", step_id="s1", execution=1, outcome="ok", error="",
    output=base64.b64encode(b"user:" + raw.encode()).decode(), seconds=0.1)
emit("check_executed", round=1, check=raw, outcome="passed", detail="x" + raw, code=repr(raw))
leave("good.csv", b"a,b")
leave("leak.csv", b"a," + raw.encode())
leave("leak2.csv", b"a," + {SWAPPED!r}.encode())
leave(raw + ".csv", b"a,b")
save("frame", {{"a": 1}})
save("leaky", raw)
emit("run_succeeded", answer="the answer is " + raw, verdict={{"kind": "proven", "evidence": [
    {{"check": "c " + raw, "outcome": "passed", "detail": raw, "code": raw}}]}},
    usage={{"turns": 1, "input_tokens": 1, "output_tokens": 1, "cost": None}})
"""


async def test_no_value_of_a_secret_reaches_a_row_or_a_file(world: World) -> None:
    await world.secret("TOKEN", SWAPPED, "api.example.org")
    await world.secret("DB_PASSWORD", RAW, "api.example.org", raw=True)
    await world.secret("UNUSED", "for another host", "other.example.org")
    await world.secret("FOREIGN", "of another worker", "api.example.org", key=key_of(generate_key()))
    task = await world.ask(hosts=["api.example.org"])
    row = await world.work(LEAKY)
    assert (row["state"], row["verdict"]) == ("succeeded", "proven"), row["error"]
    everything = await world.everything()
    for value in (RAW, SWAPPED, "canary"):
        assert value not in everything
    assert "PLACEHOLDER_DB_PASSWORD_" in row["answer"]

    stored = await world.stored()
    assert {name.rpartition("/")[2].partition("_")[0] for name in stored} == {
        "good.csv",
        "PLACEHOLDER",
        "frame.json",
    }
    assert not [name for name, content in stored.items() if b"canary" in content or "canary" in name]

    events = await world.events(task)
    warnings = " ".join(event["text"] for event in events if event["kind"] == "noted")
    for word in ("leak.csv was not stored", "leak2.csv was not stored", "The variable leaky was not stored"):
        assert word in warnings
    assert "FOREIGN is sealed to the key of another worker" in warnings
    assert "UNUSED" not in everything
    kinds = [event["kind"] for event in events]
    assert kinds.index("egress_requested") < kinds.index("run_succeeded"), "late requests come before the end"

    ((hosts, secrets),) = world.broker.granted
    assert hosts == ("api.example.org",)
    assert {secret.name: secret.value for secret in secrets} == {"TOKEN": SWAPPED, "DB_PASSWORD": RAW}
    assert world.broker.open == {}
    used = await world.database.fetch(
        "select name from public.secrets where user_id = $1 and last_used_at is not null order by name",
        world.person,
    )
    assert [item["name"] for item in used] == ["DB_PASSWORD", "TOKEN"]


async def test_tools_are_answered_for_the_tasks_own_person(world: World) -> None:
    await world.ask(prompt="my bill for November by service")
    await world.work('leave("bill.csv", b"a")\nsucceed("42 dollars")')
    thread = await world.database.fetchval("select id from public.threads where user_id = $1", world.person)
    stranger = uuid4()
    await world.database.execute(
        "insert into auth.users (id, email) values ($1, $2)", stranger, f"{stranger}@x.org"
    )
    other = World(client=world.client, database=world.database, folder=world.folder, person=stranger)
    await other.ask(prompt="the bill of somebody else")
    await other.work('succeed("secret bill")')
    await world.ask(prompt="and now?", thread_id=thread)
    row = await world.work(
        """
        found = ask("earlier_tasks", words="bills of november")["value"]
        files = ask("thread_files")["value"]
        refused = ask("earlier_tasks", words="x", limit=10**6)["error"]
        missing = ask("delete_everything")["error"]
        nothing = ask("earlier_tasks", words="zebra")["value"]
        succeed(json.dumps([found, files, refused, missing, nothing]))
        """
    )
    found, files, refused, missing, nothing = json.loads(row["answer"])
    assert [(item["asked"], item["answer"]) for item in found] == [
        ("my bill for November by service", "42 dollars")
    ]
    assert [(item["name"], item["bytes"]) for item in files] == [("bill.csv", 1)]
    assert refused
    assert "delete_everything" in missing
    assert nothing == []
    await world.database.execute("delete from auth.users where id = $1", stranger)


async def test_an_assistant_with_a_tool_that_is_none_fails_with_a_sentence(world: World) -> None:
    assistant = await world.database.fetchval(
        """insert into public.assistants (user_id, name, tools) values ($1, 'A', '{send_rockets}')
        returning id""",
        world.person,
    )
    await world.ask(assistant_id=assistant)
    row = await world.work("succeed()")
    assert (row["state"], "send_rockets" in row["error"]) == ("failed", True)


async def test_a_task_whose_plan_the_database_refuses_is_not_proven_and_says_why(world: World) -> None:
    task = await world.ask()
    row = await world.work(
        """
        step = {"id": "s1", "title": "t", "goal": "g", "proof": "p", "depends_on": []}
        emit("plan_made", plan={"steps": [step, step]})
        emit("run_succeeded", answer="42", verdict={"kind": "proven", "evidence": [
            {"check": "c", "outcome": "passed", "detail": "d"}]},
            usage={"turns": 1, "input_tokens": 1, "output_tokens": 1, "cost": None})
        """
    )
    assert (row["state"], row["verdict"], row["answer"]) == ("succeeded", "unverified", "42"), row["error"]
    kept, missing = json.loads(row["evidence"])
    assert (kept["check"], missing["outcome"]) == ("c", "failed")
    (told,) = [event["text"] for event in await world.events(task) if event["kind"] == "noted"]
    assert told == missing["detail"]
    assert told.startswith("An event (plan_made) could not be stored: ")


async def test_an_answer_that_the_database_refuses_fails_the_task_once_in_words(world: World) -> None:
    await world.ask()
    row = await world.work('succeed("x" * 1_100_000)')
    assert (row["state"], row["failures"]) == ("failed", 1)
    assert row["error"].startswith("The answer could not be stored: ")


async def test_the_newest_key_is_the_one_that_was_published_last(world: World) -> None:
    store = SupabaseSecrets(world.client)
    one, two = key_of(generate_key()), key_of(generate_key())
    newest = "select key_id from public.secret_keys order by published_at desc limit 1"
    for key in (one, two, one):  # in the end the worker with the older key starts again
        await publish(store, key)
        assert await world.database.fetchval(newest) == key.key_id
