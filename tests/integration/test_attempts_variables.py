"""Variables that one task of a thread keeps for the next."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from pythonic_assistant.adapters.store.supabase_queue import SupabaseQueue
from tests.integration.attempt_world import World

pytestmark = pytest.mark.timeout(60)


async def test_a_variable_of_one_task_is_there_in_the_next_of_the_thread(world: World) -> None:
    first = await world.ask()
    assert (await world.work('save("frame", {"a": 1})\nsucceed()'))["state"] == "succeeded"
    thread = (await world.row(first))["thread_id"]
    await world.ask(thread_id=thread)
    row = await world.work(
        """
        (saved,) = request["saved"]
        (file,) = request["files"]
        assert file["name"] == "saved_frame.json"
        succeed(saved["name"] + " " + saved["path"] + " " + pathlib.Path(file["path"]).read_text())
        """
    )
    assert row["answer"] == 'frame inputs/saved_frame.json {"a": 1}', row["error"]
    await world.ask(prompt="another thread")
    assert (await world.work('succeed(str(len(request["saved"])))'))["answer"] == "0"


async def test_a_kept_variable_is_replaced_by_one_of_its_name(world: World) -> None:
    first = await world.ask()
    await world.work('save("frame", {"a": 1})\nsave("other", 1)\nsucceed()')
    thread = (await world.row(first))["thread_id"]
    second = await world.ask(thread_id=thread)
    await world.work('save("frame", {"a": 2})\nsucceed()')
    rows = await world.database.fetch(
        "select name, task_id from public.variables where thread_id = $1 order by name", thread
    )
    assert [tuple(row) for row in rows] == [("frame", second), ("other", first)]
    assert (await world.stored())[f"{world.person}/variables/{thread}/{second}-1/frame.json"] == b'{"a": 2}'


async def test_a_variable_from_outside_of_the_outbox_fails_the_task(world: World) -> None:
    await world.ask()
    row = await world.work(
        """
        emit("variable_saved", name="x", type="str", shape="", bytes=1, media_type="application/json",
            load="x", path="/etc/hostname")
        succeed()
        """
    )
    assert row["state"] == "failed"
    assert "outside" in row["error"]
    assert await world.stored() == {}


async def test_events_of_a_lost_lease_keep_no_variable(world: World) -> None:
    task = await world.ask()
    queue = SupabaseQueue(world.client, worker=uuid4(), lease_seconds=30, queue=world.queue_name)
    (claimed,) = (await queue.claim(1, [])).tasks
    data = {
        "name": "x",
        "type": "int",
        "bytes": 1,
        "media_type": "application/json",
        "load": "x",
        "storage_path": "p",
    }
    event = json.dumps([{"seq": 1, "kind": "variable_saved", "data": data}])
    append = "select public.append_events($1, $2, $3, $4)"
    assert not await world.database.fetchval(append, uuid4(), task, claimed.attempt, event)
    assert not await world.database.fetchval(append, uuid4(), task, claimed.attempt + 1, event)
    assert (
        await world.database.fetchval(
            "select count(*) from public.variables where user_id = $1", world.person
        )
        == 0
    )
