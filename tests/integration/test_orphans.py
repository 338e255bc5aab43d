"""Files in Storage whose rows are gone are removed, and those of rows that are there never are."""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import pytest

from pythonic_assistant.adapters.store.naming import BUCKET
from pythonic_assistant.adapters.store.supabase_queue import SupabaseQueue
from pythonic_assistant.adapters.store.supabase_removals import SupabaseRemovals
from pythonic_assistant.domain.errors import StoreUnavailableError
from tests.integration.attempt_world import World
from worker.sweeping import sweep

pytestmark = pytest.mark.timeout(60)

LEAVE = 'leave("out.csv", b"a")\nsave("frame", {"a": 1})\nsucceed()'


async def swept(world: World) -> list[str]:
    """What is in Storage after a sweep that comes when everything is due."""
    await world.database.execute("update public.file_removals set due_at = now()")
    await sweep(SupabaseRemovals(world.client))
    return sorted((await world.stored()).keys())


async def upload(world: World, name: str) -> str:
    path = f"{world.person}/uploads/{uuid4()}/{name}"
    await world.client.storage.from_(BUCKET).upload(path, b"a\n1\n", {"content-type": "text/csv"})
    return path


def given(path: str) -> str:
    return json.dumps([{"name": "in.csv", "storage_path": path, "media_type": "text/csv", "bytes": 4}])


async def test_a_thread_that_is_deleted_by_hand_leaves_no_file(world: World) -> None:
    shared, alone = await upload(world, "shared.csv"), await upload(world, "alone.csv")
    task = await world.ask(inputs=given(alone))
    await world.work(LEAVE)
    thread = (await world.row(task))["thread_id"]
    await world.ask(inputs=given(shared), thread_id=thread)
    await world.work("succeed()")
    other = await world.ask(inputs=given(shared))
    await world.work(LEAVE)
    gone = (f"/tasks/{task}/", f"/variables/{thread}/", "/alone.csv")
    kept = sorted(path for path in await world.stored() if not any(part in path for part in gone))
    await world.database.execute("delete from public.threads where id = $1", thread)
    await sweep(SupabaseRemovals(world.client))
    assert alone in await world.stored(), "a run that has just begun may still fetch it"
    assert await swept(world) == kept
    assert shared in kept
    assert f"{world.person}/tasks/{other}/1/out.csv" in kept
    await swept(world)
    assert await world.database.fetchval("select count(*) from public.file_removals") == 0


async def test_an_account_that_is_deleted_leaves_no_file(world: World) -> None:
    await world.ask(inputs=given(await upload(world, "in.csv")))
    await world.work(LEAVE)
    assert len(await world.stored()) == 3
    await world.database.execute("delete from auth.users where id = $1", world.person)
    assert await swept(world) == []


async def test_what_an_attempt_stored_and_could_not_tell_goes_with_its_task(world: World) -> None:
    task = await world.ask()
    await world.work("succeed()")
    path = f"{world.person}/tasks/{task}/7/lost.csv"
    await world.client.storage.from_(BUCKET).upload(path, b"a", {"content-type": "text/csv"})
    assert await swept(world) == [path]
    await world.database.execute("delete from public.tasks where id = $1", task)
    assert await swept(world) == []


async def test_a_new_attempt_takes_the_place_of_the_old_with_its_bytes(world: World) -> None:
    task = await world.ask()
    await world.work('leave("out.csv", b"one")\nleave("old.csv", b"x")\nsucceed()')
    await world.database.execute(
        "select set_config('request.jwt.claims', $1, false)", json.dumps({"sub": str(world.person)})
    )
    await world.database.fetchval("select pythonic.retry_task($1, true)", task)
    await world.work('leave("out.csv", b"second")\nsucceed()')
    path = f"{world.person}/tasks/{task}/2/out.csv"
    assert await swept(world) == [path]
    assert (await world.stored())[path] == b"second"


async def test_two_tasks_that_keep_one_variable_at_once_do_not_mix(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    thread = (await world.row(await world.ask()))["thread_id"]
    await world.work("succeed()")
    one = await world.ask(thread_id=thread)
    slow = "time.sleep(1)\n"
    first = asyncio.create_task(world.work(slow + 'save("frame", {"of": 1})\nsucceed()'))
    async with asyncio.timeout(20):
        while (await world.row(one))["state"] != "running":
            await asyncio.sleep(0.02)
    two = await world.ask(thread_id=thread)
    other = World(
        client=world.client,
        database=world.database,
        folder=tmp_path_factory.mktemp("other"),
        person=world.person,
        queue_name=world.queue_name,
    )
    await other.work(slow + 'save("frame", {"of": 2})\nsucceed()')
    await first
    row = await world.database.fetchrow(
        "select task_id, storage_path from public.variables where thread_id = $1", thread
    )
    assert row is not None
    assert await swept(world) == [row["storage_path"]]
    content = json.loads((await world.stored())[row["storage_path"]])
    assert content == {"of": {one: 1, two: 2}[row["task_id"]]}, "the row and the bytes are of one task"


async def test_a_removal_that_fails_comes_again(world: World) -> None:
    task = await world.ask()
    await world.work(LEAVE)
    await world.database.execute("delete from public.tasks where id = $1", task)
    await world.database.execute("update public.file_removals set due_at = now()")

    class Away(SupabaseRemovals):
        async def remove(self, paths: tuple[str, ...]) -> None:
            raise StoreUnavailableError("Storage is away.")

    with pytest.raises(StoreUnavailableError):
        await sweep(Away(world.client))
    waits = await world.database.fetch("select tries, due_at > now() as later from public.file_removals")
    assert waits
    assert all((row["tries"], row["later"]) == (1, True) for row in waits)
    left = await swept(world)
    assert not [path for path in left if path.startswith(f"{world.person}/tasks/")]


async def test_only_workers_see_and_take_removals(world: World) -> None:
    for role in ("anon", "authenticated"):
        for query in ("select * from public.file_removals", "select public.due_removals(1)"):
            async with world.database.transaction():
                await world.database.execute(f"set local role {role}")
                with pytest.raises(Exception, match="permission denied"):
                    async with world.database.transaction():
                        await world.database.execute(query)


async def test_many_rows_whose_files_are_gone_hold_up_none(world: World) -> None:
    task = await world.ask()
    await world.work(LEAVE)
    await world.database.execute(
        """insert into public.file_removals (path, due_at)
        select $1 || '/tasks/' || n || '/', now() - interval '1 day'
        from generate_series(10000000, 10002000) n""",
        str(world.person),
    )
    await world.database.execute("delete from public.tasks where id = $1", task)
    assert not [path for path in await swept(world) if "/tasks/" in path]
    assert (
        await world.database.fetchval("select count(*) from public.file_removals where path like '%/1000%'")
        == 0
    )


async def test_many_workers_sweep_at_once(world: World) -> None:
    for _ in range(3):
        await world.ask()
        await world.work(LEAVE)
    await world.database.execute("delete from public.threads where user_id = $1", world.person)
    await world.database.execute("update public.file_removals set due_at = now()")
    await asyncio.gather(*(sweep(SupabaseRemovals(world.client)) for _ in range(4)))
    assert await world.stored() == {}


async def test_a_stale_attempt_cannot_change_the_bytes_of_the_next(world: World) -> None:
    """The path names the attempt, so a worker that lost its lease writes beside, not over."""
    task = await world.ask()
    queue = SupabaseQueue(world.client, worker=uuid4(), lease_seconds=30, queue=world.queue_name)
    (stale,) = (await queue.claim(1, [])).tasks
    await world.database.execute(
        "update public.tasks set lease_until = now() - interval '1 second' where id = $1", task
    )
    # The claim takes lost leases back; the failure that it counts lets the task wait a little.
    await queue.claim(0, [])
    await world.database.execute("update public.tasks set run_at = now() where id = $1", task)
    row = await world.work('leave("out.csv", b"right")\nsucceed()')
    assert (row["state"], row["attempt"]) == ("succeeded", stale.attempt + 1), row["error"]
    (path,) = await world.stored()
    assert path == f"{world.person}/tasks/{task}/{stale.attempt + 1}/out.csv"
