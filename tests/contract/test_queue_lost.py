"""The queue when what stands between fails: the network, a pooler, the worker itself."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from supabase import AsyncClientOptions, acreate_client

from pythonic_assistant.adapters.store.postgres_listener import PostgresListener
from pythonic_assistant.adapters.store.postgres_queue import PostgresQueue
from pythonic_assistant.adapters.store.postgres_session import is_pooled_by_transaction
from pythonic_assistant.adapters.store.supabase_queue import SupabaseQueue
from pythonic_assistant.domain.errors import StoreUnavailableError
from pythonic_assistant.ports import Fence
from tests.contract.queue_world import Hints, World, open_world
from tests.embedded_fixtures import RunningSupabase
from tests.servers.between import network

pytestmark = pytest.mark.timeout(90)

ROOT = Path(__file__).parents[2]
LEASE_SECONDS = 4.0


@pytest.fixture
async def world(embedded_supabase: RunningSupabase) -> AsyncIterator[World]:
    async with open_world(embedded_supabase) as made:
        yield made


async def test_a_database_that_was_cut_off_is_unavailable_and_then_as_before(world: World) -> None:
    task = await world.add(await world.person())
    fence, loop = Fence(task, 1), asyncio.get_running_loop()
    async with network(world.supabase.database_url) as between:
        queue = PostgresQueue(between.url, worker=uuid4(), lease_seconds=LEASE_SECONDS, queue=world.name)
        await queue.claim(1, [])
        between.passing.clear()
        began = loop.time()
        slow = asyncio.create_task(queue.append(fence, []))
        await asyncio.sleep(0)  # it has the session, and the heartbeat waits for it
        with pytest.raises(StoreUnavailableError, match="did not answer when asked to heartbeat"):
            await queue.heartbeat([fence])
        assert loop.time() - began < LEASE_SECONDS, "less than the lease that it renews"
        with pytest.raises(StoreUnavailableError):
            await slow
        between.passing.set()
        assert await queue.heartbeat([fence]) == {fence: "ok"}
        between.cut()
        with pytest.raises(StoreUnavailableError):
            await queue.heartbeat([fence])
        with pytest.raises(StoreUnavailableError, match="let the worker in"):
            await queue.heartbeat([fence])
        between.open = True
        assert await queue.heartbeat([fence]) == {fence: "ok"}
        await queue.close()


async def test_an_api_that_does_not_answer_is_unavailable(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
            options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
            client = await acreate_client(f"http://127.0.0.1:{port}", world.supabase.secret_key, options)
            queue = SupabaseQueue(client, worker=uuid4(), lease_seconds=1.0)
            with pytest.raises(StoreUnavailableError, match="heartbeat"):
                await queue.heartbeat([Fence(1, 1)])
            silent.close()
            with pytest.raises(StoreUnavailableError, match="claim"):
                await queue.claim(1, [])
            await client.realtime.close()


async def test_a_lost_listener_comes_back_and_takes_its_lock_again(world: World) -> None:
    worker, hints = uuid4(), Hints()
    held = """select count(*) from pg_locks where locktype = 'advisory' and granted and objsubid = 1
        and (classid::bigint << 32) | objid::bigint = pythonic.worker_key($1)"""
    async with network(world.supabase.database_url) as between:
        listener = PostgresListener(
            between.url,
            worker=worker,
            queue=world.name,
            on_queued=hints.told("queued"),
            on_cancel=hints.told("cancel"),
            on_up=hints.up.set,
            on_down=hints.up.clear,
        )
        keeping = asyncio.create_task(listener.keep())
        try:
            for _ in range(2):
                async with asyncio.timeout(20):
                    await hints.up.wait()
                assert await world.database.fetchval(held, worker) == 1
                await world.add(await world.person())
                await hints.until("queued", queue=world.name)
                between.cut()
                async with asyncio.timeout(10):
                    while hints.up.is_set():
                        await asyncio.sleep(0.01)
                between.open = True
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})


async def test_a_sign_of_life_that_another_has_is_told_and_taken_when_it_is_free(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pythonic_assistant.adapters.store.postgres_listener.LOCK_SECONDS", 0.1)
    worker = uuid4()
    await world.database.execute("select pg_advisory_lock(pythonic.worker_key($1))", worker)
    async with world.hearing("direct", worker):
        assert "another session has this worker's sign of life" in caplog.text
        await world.database.execute("select pg_advisory_unlock(pythonic.worker_key($1))", worker)
        async with asyncio.timeout(10):
            while await world.database.fetchval(
                "select pg_try_advisory_lock(pythonic.worker_key($1))", worker
            ):
                await world.database.execute("select pg_advisory_unlock(pythonic.worker_key($1))", worker)
                await asyncio.sleep(0.1)


async def test_a_pooler_by_transaction_is_found_out_by_doing_and_by_its_port(world: World) -> None:
    assert not await is_pooled_by_transaction(world.supabase.database_url)
    assert await is_pooled_by_transaction(world.pooled.url)
    assert await is_pooled_by_transaction("postgresql://u:p@pooler.example.org:6543/postgres")


WORKER = """
import asyncio, sys
from uuid import UUID
from pythonic_assistant.adapters.store.postgres_listener import PostgresListener
from pythonic_assistant.adapters.store.postgres_queue import PostgresQueue

async def main(url, name, worker):
    queue = PostgresQueue(url, worker=worker, lease_seconds=600, queue=name)
    up = asyncio.Event()
    listener = PostgresListener(url, worker=worker, queue=name, on_queued=lambda _: None,
        on_cancel=lambda _: None, on_up=up.set, on_down=up.clear)
    keeping = asyncio.create_task(listener.keep())
    await up.wait()
    await queue.seen({"adapter": "direct", "host": "h", "slots": 1})
    (task,) = (await queue.claim(1, [])).tasks
    print(task.id, flush=True)
    await keeping

asyncio.run(main(sys.argv[1], sys.argv[2], UUID(sys.argv[3])))
"""


@asynccontextmanager
async def other_worker(world: World, worker: UUID) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        WORKER,
        world.supabase.database_url,
        world.name,
        str(worker),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def test_what_a_killed_worker_held_is_taken_back_long_before_its_lease_ends(world: World) -> None:
    task, worker = await world.add(await world.person()), uuid4()
    loop = asyncio.get_running_loop()
    queue = world.queue("direct")
    await world.database.execute(  # a server that has just started waits for its workers to come back
        "select pg_sleep(greatest(0, 15.5 - extract(epoch from now() - pg_postmaster_start_time())))",
        timeout=30,
    )
    async with other_worker(world, worker) as process:
        assert process.stdout is not None
        assert int(await process.stdout.readline()) == task
        await world.database.execute(
            "update public.workers set seen_at = now() - interval '1 minute' where id = $1", worker
        )
        assert (await queue.claim(1, [])).tasks == (), "it is silent, but its session lives"
        await world.database.execute("update public.workers set seen_at = now() where id = $1", worker)
        process.kill()
        killed = loop.time()
        async with asyncio.timeout(20):
            while not (found := (await queue.claim(1, [])).tasks):
                await asyncio.sleep(0.2)
    assert loop.time() - killed <= 10
    assert (found[0].id, found[0].attempt) == (task, 2)
    await world.database.execute("delete from public.workers where id = $1", worker)
