"""Every hop between gateway, lite and PostgreSQL has a bound: nothing waits for ever for what is gone."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from embedded_supabase import sql
from tests.embedded_fixtures import (
    SMALL_MIGRATIONS,
    RunningSupabase,
    start_supabase,
    stop_supabase,
    temporary_state_folder,
)

OPTIONS = ("--migrations", str(SMALL_MIGRATIONS))


@pytest.fixture
def running() -> Iterator[RunningSupabase]:
    folder = temporary_state_folder()
    supabase = start_supabase(folder, *OPTIONS)
    yield supabase
    stop_supabase(supabase)
    shutil.rmtree(folder, ignore_errors=True)
    Path(f"{folder}.err").unlink(missing_ok=True)


def database_folder(running: RunningSupabase) -> Path:
    return Path(running.database_url.split("host=")[1])


async def ask(running: RunningSupabase, count: int, *, timeout: float) -> list[int]:
    """Statuses of so many simultaneous requests that need the database."""
    async with httpx.AsyncClient(
        base_url=running.url, headers={"apikey": running.secret_key}, timeout=timeout
    ) as client:
        answers = await asyncio.gather(
            *(client.post("/rest/v1/rpc/add_numbers", json={"a": 1, "b": n}) for n in range(count))
        )
    return [answer.status_code for answer in answers]


async def end_connections(running: RunningSupabase) -> None:
    """Cut lite's connections off, as a restart of PostgreSQL does."""
    connection = await sql.connect(str(database_folder(running)), "postgres")
    await connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'postgres.js'"
    )
    await connection.close()


async def test_attempts_to_connect_in_vain_do_not_slow_down_what_comes_after(
    running: RunningSupabase,
) -> None:
    """Many requests meet a database that cannot be reached; once it can be, everything works at once."""
    assert set(await ask(running, 24, timeout=20)) == {200}
    socket = database_folder(running) / ".s.PGSQL.5432"
    aside = socket.with_name("aside")
    for _ in range(3):
        await end_connections(running)
        socket.rename(aside)
        try:
            seen = await ask(running, 48, timeout=20)
        finally:
            aside.rename(socket)
        assert set(seen) == {503}
        began = time.monotonic()
        assert set(await ask(running, 48, timeout=20)) == {200}
        assert time.monotonic() - began < 4


def database_processes(running: RunningSupabase) -> list[psutil.Process]:
    """The server first, then those of its sessions."""
    server = psutil.Process(running.children["postgres"])
    return [server, *server.children(recursive=True)]


async def until_well(running: RunningSupabase, seconds: float) -> None:
    """Wait until several requests at the same time succeed."""
    deadline = time.monotonic() + seconds
    while set(await ask(running, 8, timeout=20)) != {200}:
        assert time.monotonic() < deadline, f"not well within {seconds} s"
        await asyncio.sleep(0.1)


async def test_requests_to_a_frozen_database_end_when_it_is_killed(running: RunningSupabase) -> None:
    assert set(await ask(running, 8, timeout=20)) == {200}
    frozen = database_processes(running)
    for process in frozen:
        process.suspend()
    waiting = asyncio.create_task(ask(running, 40, timeout=40))
    await asyncio.sleep(3)
    for process in frozen:
        process.kill()
    assert set(await waiting) <= {200, 503}
    await until_well(running, 15)


async def test_a_database_that_accepts_and_never_answers_is_not_waited_for(running: RunningSupabase) -> None:
    await end_connections(running)
    frozen = database_processes(running)[:1]  # without it nobody serves new connections
    frozen[0].suspend()
    try:
        began = time.monotonic()
        assert set(await ask(running, 4, timeout=30)) == {503}
        assert time.monotonic() - began < 20
    finally:
        frozen[0].resume()
    await until_well(running, 15)


async def test_a_lite_that_does_not_answer_is_started_again(running: RunningSupabase) -> None:
    frozen = psutil.Process(running.children["lite"])
    frozen.suspend()
    assert set(await ask(running, 4, timeout=60)) == {503}
    await until_well(running, 15)
    assert not frozen.is_running()


async def test_a_session_that_computes_does_not_hold_up_the_restart(running: RunningSupabase) -> None:
    """It would outlive its killed server until its statement is done, and no other could start meanwhile."""
    connection = await sql.connect(str(database_folder(running)), "postgres")
    computing = asyncio.create_task(
        connection.fetchval("select count(*) from generate_series(1, 10000000000)")
    )
    await asyncio.sleep(1)
    os.kill(running.children["postgres"], signal.SIGKILL)
    await until_well(running, 15)
    with pytest.raises(sql.UNREACHABLE):
        await computing


async def test_database_and_lite_come_back_when_both_are_killed(running: RunningSupabase) -> None:
    for _ in range(2):
        for process in psutil.Process(running.process.pid).children():
            process.kill()
        await until_well(running, 20)
    assert running.process.poll() is None
