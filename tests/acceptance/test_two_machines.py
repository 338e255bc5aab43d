"""Two workers on two machines and one database: they share the work, and one that is cut off does no harm."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import asyncpg
import pytest

from tests.acceptance import slow
from tests.acceptance.stack import ROOT
from tests.embedded_fixtures import RunningSupabase, temporary_state_folder
from tests.servers.between import SOCKET
from tests.servers.namespaces import OwnNetwork, own_network, passing_to_socket, why_not
from tests.servers.openai_server import TEST_MODEL, OpenAIServer

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(bool(reason := why_not()), reason=f"no network namespaces here: {reason}"),
]
LABEL = "two-machines"


@dataclass
class Worker:
    """A worker on a machine of its own."""

    network: OwnNetwork
    home: Path

    @property
    def log(self) -> str:
        """What it has said."""
        path = self.home / "worker.log"
        return path.read_text(errors="replace") if path.exists() else ""


@asynccontextmanager
async def worker_on_a_machine(supabase: RunningSupabase, model: OpenAIServer) -> AsyncIterator[Worker]:
    ports = [int(urlsplit(url).port or 0) for url in (supabase.url, model.url)]
    real = urlsplit(supabase.database_url)
    folder = parse_qs(real.query)["host"][0]
    home = temporary_state_folder()
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        network = await stack.enter_async_context(own_network(ports))
        port = await stack.enter_async_context(passing_to_socket(network.host, f"{folder}/{SOCKET}"))
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | {
            "PYTHONIC_HOME": str(home),
            "PYTHONIC_SLOTS": "1",
            "PYTHONIC_LABELS": LABEL,
            "SUPABASE_URL": supabase.url,
            "SUPABASE_PUBLISHABLE_KEY": supabase.publishable_key,
            "SUPABASE_SECRET_KEY": supabase.secret_key,
            "SUPABASE_DB_URL": f"postgresql://{real.username}@{network.host}:{port}{real.path}",
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": model.url,
            "PYTHONIC_MODEL": TEST_MODEL,
        }
        with (home / "worker.log").open("w") as log:
            process = await asyncio.create_subprocess_exec(
                *network.command,
                sys.executable,
                "-m",
                "worker",
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )
        try:
            yield Worker(network, home)
        finally:
            network.mend()
            process.terminate()
            try:
                async with asyncio.timeout(20):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def until(look: Any, what: str, seconds: float = 60.0) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := await look()):
            await asyncio.sleep(0.05)
    assert found, what
    return found


async def test_they_share_the_work_and_one_that_is_cut_off_does_no_harm(
    embedded_supabase: RunningSupabase,
) -> None:
    with OpenAIServer(slow.script, key="sk-test") as model:
        database = await asyncpg.connect(embedded_supabase.database_url)
        person = uuid4()
        await database.execute(
            "insert into auth.users (id, email) values ($1, $2)", person, f"{person}@example.com"
        )

        async def ask(word: str, seconds: float) -> int:
            return await database.fetchval(
                "insert into public.tasks (user_id, prompt, labels) values ($1, $2, array[$3]) returning id",
                person, slow.prompt(word, seconds), LABEL,
            )  # fmt: skip

        async def ended(tasks: list[int]) -> bool:
            left = "select count(*) from public.tasks where id = any($1) and state <> 'succeeded'"
            return await database.fetchval(left, tasks) == 0

        try:
            async with (
                worker_on_a_machine(embedded_supabase, model) as one,
                worker_on_a_machine(embedded_supabase, model) as other,
            ):

                async def both_work() -> bool:
                    return all('"recovered"' in worker.log for worker in (one, other))

                await until(both_work, "two workers at work", 90)
                tasks = [await ask(word, 2) for word in ("north", "south", "east", "west")]
                await until(lambda: ended(tasks), "the end of four tasks", 90)
                shares = [worker.log.count('"action": "claimed"') for worker in (one, other)]
                assert sum(shares) == 4 and min(shares) >= 1, shares

                task = await ask("island", 4)
                mark = f'"action": "run_started", "task_id": {task}, "attempt": 1'

                async def begun() -> bool:
                    return bool(
                        await database.fetchval(
                            """select 1 from public.task_events
                            where task_id = $1 and kind = 'output_written' and step_id = 's2'""",
                            task,
                        )
                    )

                await until(begun, "the slow step")
                cut, kept = (one, other) if mark in one.log else (other, one)
                cut.network.cut()
                stored = await database.fetchval(
                    "select count(*) from public.task_events where task_id = $1 and attempt = 1", task
                )
                await until(lambda: ended([task]), "the other one's answer", 90)
                assert f'"task_id": {task}, "attempt": 2' in kept.log

                async def said(words: str) -> bool:
                    return words in cut.log

                await until(lambda: said('"action": "cut_off"'), "that it says it is cut off")
                cut.network.mend()
                dropped = (
                    f'"action": "lease_lost", "task_id": {task}',
                    f'"action": "stop_lost", "task_id": {task}',
                )

                async def gives_up() -> bool:
                    return any(words in cut.log for words in dropped)

                await until(gives_up, "that it says its lease is lost", 90)
                row = await database.fetchrow("select * from public.tasks where id = $1", task)
                assert row is not None
                assert (row["state"], row["verdict"], row["attempt"]) == ("succeeded", "proven", 2)
                late = await database.fetchval(
                    "select count(*) from public.task_events where task_id = $1 and attempt = 1", task
                )
                assert late == stored, "nothing was written by the one that was cut off"
                answers = "select count(*) from public.messages where task_id = $1 and role = 'assistant'"
                assert await database.fetchval(answers, task) == 1
                again = await ask("back", 0.1)
                await until(lambda: ended([again]), "a task after all that")
        finally:
            await database.execute("delete from auth.users where id = $1", person)
            await database.close()
