"""A plugin of pytest: an embedded Supabase per session, on free ports, in a folder of its own.

Use it with `pytest_plugins = ["tests.embedded_fixtures"]` in conftest.py. `embedded_supabase` has the
project's migrations, `small_supabase` a small schema of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

ROOT = Path(__file__).parent.parent
SMALL_MIGRATIONS = Path(__file__).parent / "embedded_migrations"
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningSupabase:
    """An embedded Supabase in a process of its own.

    Attributes:
        url: for `create_client`.
        publishable_key: the role `anon` until somebody signs in.
        secret_key: the role `service_role`.
        jwt_secret: for forging tokens in tests.
        local_user: e-mail and password of the person at this machine.
        database_url: a connection with all rights.
        state: its state folder.
        process: the supervisor.
        children: ids of its child processes at the start.
        ready_seconds: from start to ready.
    """

    url: str
    publishable_key: str
    secret_key: str
    jwt_secret: str
    local_user: tuple[str, str]
    database_url: str
    state: Path
    process: subprocess.Popen[str]
    children: dict[str, int]
    ready_seconds: float

    def sign_up(self) -> dict[str, Any]:
        """Make a fresh account; returns `access_token`, `user`, and the `email` and `password`."""
        email, password = f"{secrets.token_hex(6)}@example.com", secrets.token_urlsafe(12)
        answer = httpx.post(
            f"{self.url}/auth/v1/signup",
            json={"email": email, "password": password},
            headers={"apikey": self.publishable_key},
            timeout=20,
        )
        answer.raise_for_status()
        return {**answer.json(), "email": email, "password": password}

    def forget(self) -> None:
        """Delete the people and rows that earlier tests left, as if it had just been started.

        The person at this machine, the built-in assistants and the prices stay.
        """
        for _ in range(5):
            try:
                return asyncio.run(self._forget())
            except asyncpg.DeadlockDetectedError:  # with what a process of an earlier test does while it ends
                time.sleep(0.5)
        return asyncio.run(self._forget())

    async def _forget(self) -> None:
        database = await asyncpg.connect(self.database_url)
        try:
            for table in (
                "tasks",
                "schedules",
                "threads",
                "workers",
                "mail_workers",
                "secrets",
                "secret_keys",
            ):
                await database.execute(f"delete from public.{table}")
            await database.execute("delete from auth.users where email <> $1", self.local_user[0])
        finally:
            await database.close()

    def clear_queue(self) -> None:
        """Delete what other tests left unfinished: whoever claims next gets what this test asks."""
        answer = httpx.delete(
            f"{self.url}/rest/v1/tasks?state=in.(scheduled,held,queued,running,waiting)&queue=eq.default",
            headers={"apikey": self.secret_key, "Authorization": f"Bearer {self.secret_key}"},
            timeout=60,
        )
        answer.raise_for_status()


def temporary_state_folder() -> Path:
    """An empty folder; root's PostgreSQL account can reach it, so that the data stays inside."""
    folder = Path(tempfile.mkdtemp(prefix="pythonic-test-"))
    if os.geteuid() == 0:
        folder.chmod(0o755)
    return folder


def start_supabase(state: Path, *options: str) -> RunningSupabase:
    """Start `python -m embedded_supabase` and wait for its line; fails with what it said otherwise."""
    command = [sys.executable, "-m", "embedded_supabase", "--state", str(state), "--port", "0", *options]
    errors = (state.parent / f"{state.name}.err").open("w+")
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait(timeout=20)
        errors.seek(0)
        raise AssertionError(f"the embedded Supabase did not start: {errors.read()}")
    errors.close()
    said = json.loads(line)
    keys = json.loads(Path(said["keys_file"]).read_text())
    return RunningSupabase(
        url=said["url"],
        publishable_key=keys["publishable_key"],
        secret_key=keys["secret_key"],
        jwt_secret=keys["jwt_secret"],
        local_user=(keys["local_user"]["email"], keys["local_user"]["password"]),
        database_url=said["database_url"],
        state=state,
        process=process,
        children=said["children"],
        ready_seconds=said["ready_seconds"],
    )


def stop_supabase(running: RunningSupabase) -> int:
    """Stop it as a person would, and return the exit code."""
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGTERM)
    try:
        return running.process.wait(timeout=30)
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()
        assert running.process.stdout is not None
        running.process.stdout.close()


@contextmanager
def running_supabase(*options: str) -> Iterator[RunningSupabase]:
    """An embedded Supabase in a fresh folder, gone without a trace afterwards."""
    state = temporary_state_folder()
    try:
        running = start_supabase(state, *options)
        try:
            yield running
        finally:
            stop_supabase(running)
    finally:
        shutil.rmtree(state, ignore_errors=True)
        Path(f"{state}.err").unlink(missing_ok=True)


@pytest.fixture(scope="session")
def supabase_of_the_session() -> Iterator[RunningSupabase]:
    """One with the project's migrations, for `embedded_supabase`."""
    with running_supabase() as running:
        yield running


@pytest.fixture(scope="module")
def embedded_supabase(supabase_of_the_session: RunningSupabase) -> RunningSupabase:
    """One with the project's migrations, shared, and empty for each file: make accounts of your own."""
    supabase_of_the_session.forget()
    return supabase_of_the_session


@pytest.fixture(scope="session")
def small_supabase() -> Iterator[RunningSupabase]:
    """One with the small schema of `tests/embedded_migrations`, shared by the whole session."""
    with running_supabase("--migrations", str(SMALL_MIGRATIONS)) as running:
        yield running
