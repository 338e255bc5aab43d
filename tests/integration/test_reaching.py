"""The way to the queue is what is configured, and is refused when it leads to another database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from pythonic_assistant.domain.errors import ConfigurationError
from pythonic_assistant.ports import Facts
from tests.contract.queue_world import World, open_world
from tests.embedded_fixtures import RunningSupabase
from tests.servers.between import network
from worker.config import WorkerConfig
from worker.reaching import SAID, Reached, Way, reach

pytestmark = pytest.mark.timeout(60)

STARTED = datetime.now(UTC).isoformat()


@pytest.fixture
async def world(embedded_supabase: RunningSupabase) -> AsyncIterator[World]:
    async with open_world(embedded_supabase) as made:
        yield made


def facts(way: Way) -> Facts:
    return {"host": "test", "adapter": "direct" if way == "direct" else "api", "started_at": STARTED}


def told(problem: str) -> None:
    logging.getLogger(__name__).warning(problem)


async def reached(world: World, url: str | None, client: AsyncClient | None = None) -> Reached:
    config = WorkerConfig(supabase_url="", supabase_key="", home=Path(), database_url=url)
    worker = uuid4()
    try:
        async with asyncio.timeout(30):
            found = await reach(config, client or world.client, worker, facts, told)
        await found.queue.close()
        return found
    finally:
        await world.database.execute("delete from public.workers where id = $1", worker)


async def test_what_is_configured_decides(world: World) -> None:
    assert (await reached(world, None)).way == "api"
    assert (await reached(world, world.supabase.database_url)).way == "direct"
    assert (await reached(world, world.pooled.url)).way == "pooler"
    assert "Use port 5432" in SAID["pooler"]


async def test_two_databases_are_refused(world: World) -> None:
    def elsewhere(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=[])

    async with httpx.AsyncClient(transport=httpx.MockTransport(elsewhere)) as http:
        options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
        client = await acreate_client("http://127.0.0.1:9", "sb_secret_x", options)
        with pytest.raises(ConfigurationError, match="are of two databases: take both from the same project"):
            await reached(world, world.supabase.database_url, client)
        await client.realtime.close()


async def test_a_database_that_is_not_there_yet_is_waited_for(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with network(world.supabase.database_url) as between:
        between.cut()
        reaching = asyncio.create_task(reached(world, between.url))
        async with asyncio.timeout(10):
            while "let the worker in" not in caplog.text:
                await asyncio.sleep(0.02)
        between.open = True
        assert (await reaching).way == "direct"


async def test_an_address_that_makes_no_sense_is_refused(world: World) -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_DB_URL cannot be used"):
        await reached(world, "postgresql://u@h/x?sslmode=perhaps")
