"""The embedded Supabase as processes: starts, kills, locks, ports, and what is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import websockets

from tests.embedded_fixtures import (
    ROOT,
    SMALL_MIGRATIONS,
    RunningSupabase,
    start_supabase,
    stop_supabase,
    temporary_state_folder,
)

OPTIONS = ("--migrations", str(SMALL_MIGRATIONS))


@pytest.fixture
def state() -> Iterator[Path]:
    folder = temporary_state_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
    Path(f"{folder}.err").unlink(missing_ok=True)


@pytest.fixture
def running(state: Path) -> Iterator[RunningSupabase]:
    supabase = start_supabase(state, *OPTIONS)
    yield supabase
    stop_supabase(supabase)


def until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for something; return how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - began


def answers(supabase: RunningSupabase) -> bool:
    reply = httpx.post(
        f"{supabase.url}/rest/v1/rpc/add_numbers",
        json={"a": 1, "b": 2},
        headers={"apikey": supabase.secret_key},
        timeout=10,
    )
    return reply.status_code == 200 and reply.json() == 3


def refuse(*command: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "embedded_supabase", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr.strip()


def test_a_second_start_is_quick_and_nothing_is_left_after_a_stop(state: Path) -> None:
    first = start_supabase(state, *OPTIONS)
    family = psutil.Process(first.process.pid).children(recursive=True)
    assert answers(first)
    assert stop_supabase(first) == 0
    gone, alive = psutil.wait_procs(family, timeout=5)
    assert len(gone) == len(family) and alive == []
    cluster = Path((state / "postgres.place").read_text().strip())
    assert not (cluster / "data" / "postmaster.pid").exists()
    assert not (state / "running.json").exists()
    second = start_supabase(state, *OPTIONS)
    try:
        assert second.ready_seconds < 2
        assert second.secret_key == first.secret_key
    finally:
        assert stop_supabase(second) == 0


@pytest.mark.parametrize("child", ["postgres", "lite"])
def test_a_killed_child_is_back_within_five_seconds(running: RunningSupabase, child: str) -> None:
    os.kill(running.children[child], signal.SIGKILL)
    seen: set[int] = set()

    def healed() -> bool:
        reply = httpx.get(f"{running.url}/rest/v1/notes", headers={"apikey": running.secret_key}, timeout=10)
        seen.add(reply.status_code)
        if reply.status_code == 503:
            assert reply.headers["retry-after"] == "1" and reply.json()["message"]
        return reply.status_code == 200 and httpx.get(f"{running.url}/health").status_code == 200

    until(lambda: httpx.get(f"{running.url}/health").status_code == 503 or healed(), 2)
    until(healed, 5)
    assert seen <= {200, 503}
    until(lambda: answers(running), 1)


async def test_no_broadcast_is_lost_when_postgres_is_killed(running: RunningSupabase) -> None:
    person = await asyncio.to_thread(running.sign_up)
    async with websockets.connect(
        f"{running.url.replace('http', 'ws')}/realtime/v1/websocket?apikey={running.secret_key}"
    ) as client:
        topic = f"realtime:user:{person['user']['id']}"
        config = {"private": True, "presence": {"enabled": False}}
        message = {"topic": topic, "event": "phx_join", "payload": {"config": config}, "ref": "1"}
        await client.send(json.dumps(message))
        assert json.loads(await asyncio.wait_for(client.recv(), 5))["payload"]["status"] == "ok"
        written: list[str] = []
        async with httpx.AsyncClient(
            base_url=running.url,
            headers={
                "apikey": running.publishable_key,
                "authorization": f"Bearer {person['access_token']}",
                "prefer": "return=minimal",
            },
            timeout=10,
        ) as http:
            killed = False
            while len(written) < 60:
                body = f"note {len(written)}"
                try:
                    done = await http.post("/rest/v1/notes", json={"body": body})
                except httpx.TransportError:
                    continue
                if done.status_code == 201:
                    written.append(body)
                else:
                    await asyncio.sleep(0.05)
                if len(written) == 30 and not killed:
                    killed = True
                    os.kill(running.children["postgres"], signal.SIGKILL)
        heard: list[str] = []
        while not set(written) <= set(heard):
            frame: dict[str, Any] = json.loads(await asyncio.wait_for(client.recv(), 5))
            if frame["event"] == "broadcast":
                heard.append(frame["payload"]["payload"]["body"])
    assert len(heard) == len(set(heard)), "nothing is delivered twice"


def test_children_die_with_a_killed_supervisor_and_the_next_start_works(state: Path) -> None:
    first = start_supabase(state, *OPTIONS)
    person = first.sign_up()
    family = psutil.Process(first.process.pid).children(recursive=True)
    first.process.kill()
    first.process.wait()
    assert first.process.stdout is not None
    first.process.stdout.close()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    second = start_supabase(state, *OPTIONS)
    try:
        reply = httpx.post(
            f"{second.url}/auth/v1/token?grant_type=password",
            json={"email": person["email"], "password": person["password"]},
            headers={"apikey": second.publishable_key},
        )
        assert reply.status_code == 200
    finally:
        stop_supabase(second)


def test_a_stale_pid_file_of_somebody_elses_process_does_no_harm(state: Path) -> None:
    stop_supabase(start_supabase(state, *OPTIONS))
    data = Path((state / "postgres.place").read_text().strip()) / "data"
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n0\n5432\n/nowhere\n\n\nready\n")
    again = start_supabase(state, *OPTIONS)
    assert answers(again)
    stop_supabase(again)
    assert psutil.pid_exists(os.getpid())


def test_a_second_instance_is_refused_and_told_who_runs(running: RunningSupabase) -> None:
    code, said = refuse("--state", str(running.state), "--port", "0")
    assert code == 1
    assert f"process {running.process.pid}" in said and "\n" not in said


def test_a_taken_port_is_said_in_one_sentence(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = refuse("--state", str(state), "--port", str(port))
    assert code == 2
    assert f"Port {port}" in said and "\n" not in said


def test_a_broken_migration_is_named_and_nothing_of_it_is_kept(state: Path, tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(SMALL_MIGRATIONS, folder)
    (folder / "20260101000002_broken.sql").write_text("create table public.half (id int); select 1/0;")
    code, said = refuse("--state", str(state), "--port", "0", "--migrations", str(folder))
    assert code == 2 and "20260101000002_broken.sql" in said and "division by zero" in said
    (folder / "20260101000002_broken.sql").write_text("create table public.half (id int);")
    supabase = start_supabase(state, "--migrations", str(folder))
    stop_supabase(supabase)


def test_a_folder_that_cannot_be_used_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said = refuse("--state", str(tmp_path / "file" / "state"), "--port", "0")
    assert code == 2 and "state folder" in said and "\n" not in said


def test_damaged_keys_are_said_in_one_sentence(state: Path) -> None:
    (state / "keys.json").write_text("{")
    (state / "keys.json").chmod(0o600)
    code, said = refuse("--state", str(state), "--port", "0")
    assert code == 2 and "keys.json" in said and "\n" not in said
