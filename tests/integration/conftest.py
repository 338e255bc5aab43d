"""What the tests of one subject share here: each gets its own people, rows and processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
from supabase import AsyncClientOptions, acreate_client

from tests.embedded_fixtures import RunningSupabase
from tests.integration.attempt_world import World
from tests.integration.callers import KEY, Someone, caller, signed_up
from tests.integration.queue_calls import Queue
from tests.integration.stage import Stage, until


@pytest.fixture
async def world(embedded_supabase: RunningSupabase, tmp_path: Path) -> AsyncIterator[World]:
    async with httpx.AsyncClient(timeout=20, follow_redirects=True) as http:
        options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
        client = await acreate_client(embedded_supabase.url, embedded_supabase.secret_key, options)
        database = await asyncpg.connect(embedded_supabase.database_url)
        person = uuid4()
        await database.execute(
            "insert into auth.users (id, email) values ($1, $2)", person, f"{person}@example.com"
        )
        yield World(client=client, database=database, folder=tmp_path, person=person)
        await database.execute("delete from auth.users where id = $1", person)
        await database.close()
        await client.realtime.close()


@pytest.fixture
def worker(embedded_supabase: RunningSupabase) -> Iterator[Someone]:
    made = caller(embedded_supabase, embedded_supabase.secret_key, embedded_supabase.secret_key)
    row = {"key_id": KEY.key_id, "public_key": KEY.public_key}
    made.post("secret_keys", row, "resolution=merge-duplicates,return=minimal").raise_for_status()
    yield made
    made.client.close()


@pytest.fixture
def ann(embedded_supabase: RunningSupabase, worker: Someone) -> Iterator[Someone]:
    made = signed_up(embedded_supabase)
    yield made
    made.client.close()


@pytest.fixture
def bob(embedded_supabase: RunningSupabase, worker: Someone) -> Iterator[Someone]:
    made = signed_up(embedded_supabase)
    yield made
    made.client.close()


@pytest.fixture
def nobody(embedded_supabase: RunningSupabase) -> Iterator[Someone]:
    made = caller(embedded_supabase, embedded_supabase.publishable_key, embedded_supabase.publishable_key)
    yield made
    made.client.close()


@pytest.fixture
async def queue(embedded_supabase: RunningSupabase) -> AsyncIterator[Queue]:
    connection = await asyncpg.connect(embedded_supabase.database_url)
    made = Queue(connection, embedded_supabase.database_url)
    yield made
    await connection.execute("delete from auth.users where id = any($1)", made.people)
    await connection.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    for process in stage.started:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    until(lambda: not stage.alive())
