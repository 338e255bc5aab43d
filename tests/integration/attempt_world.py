"""A worker's parts around one person: real database, real Storage, a runner that does as the test says."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from supabase import AsyncClient

from pythonic_assistant.adapters.egress.broker import EgressBroker
from pythonic_assistant.adapters.secrets.keyring import WorkerKey, key_of
from pythonic_assistant.adapters.secrets.vault import generate_key, seal
from pythonic_assistant.adapters.store.naming import BUCKET
from pythonic_assistant.adapters.store.supabase_files import SupabaseFiles
from pythonic_assistant.adapters.store.supabase_prices import SupabasePrices
from pythonic_assistant.adapters.store.supabase_queue import SupabaseQueue
from pythonic_assistant.adapters.store.supabase_records import SupabaseRecords
from pythonic_assistant.adapters.store.supabase_secrets import SupabaseSecrets
from pythonic_assistant.domain.event import EgressRequested
from pythonic_assistant.domain.secret import BoundSecret
from pythonic_assistant.ports import EffectLedger
from pythonic_assistant.wire import LONGEST_LINE
from worker.access import Means
from worker.attempt import Attempt
from worker.config import WorkerConfig
from worker.pricing import Pricing
from worker.runner import Runner

KEY = key_of(generate_key())
ROOT = Path(__file__).parents[2]
PRELUDE = """
import base64, json, os, pathlib, sys, time
order = json.loads(sys.stdin.readline())
request, outbox = order["request"], pathlib.Path(order["outbox"])
environment = request["environment"]
def emit(kind, **fields):
    event = {"kind": kind, **fields}
    print(json.dumps({"at": "2026-11-21T12:00:00+00:00", "event": event}), flush=True)
def note(text):
    emit("noted", text=text)
def ask(tool, **arguments):
    print(json.dumps({"ask": {"id": 1, "tool": tool, "arguments": arguments}}), flush=True)
    return json.loads(sys.stdin.readline())["answer"]
def leave(name, content):
    path = outbox / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    emit("artifact_saved", name=name, path=str(path), media_type="text/csv", bytes=len(content),
        sha256="0" * 64)
def save(name, value):
    path = outbox / ".variables" / (name + ".json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))
    emit("variable_saved", name=name, type="dict", shape="1", bytes=9, media_type="application/json",
        load="json.load(open({path!r}))", path=str(path))
def succeed(answer="done"):
    emit("run_succeeded", answer=answer, verdict={"kind": "unverified", "evidence": []},
        usage={"turns": 1, "input_tokens": 1, "output_tokens": 1, "cost": None})
"""


@dataclass
class Runners:
    """Starts programs of the test in place of the runner."""

    program: str
    folder: Path

    async def take(self) -> Runner:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            PRELUDE + textwrap.dedent(self.program),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=self.folder,
            env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
            start_new_session=True,
            limit=LONGEST_LINE,
        )
        return Runner(process)


@dataclass(frozen=True)
class Grant:
    token: str
    certificate: str = "PEM"
    socket: Path = Path("/nowhere/broker.sock")


@dataclass
class Broker:
    """Grants, and reports one request with every secret while it revokes, as late ones come."""

    granted: list[tuple[tuple[str, ...], tuple[BoundSecret, ...]]] = field(
        default_factory=list[tuple[tuple[str, ...], tuple[BoundSecret, ...]]]
    )
    open: dict[str, Callable[[], None]] = field(default_factory=dict[str, Callable[[], None]])

    def grant(
        self,
        *,
        hosts: Sequence[str],
        secrets: Sequence[BoundSecret],
        report: Callable[[EgressRequested], None],
        ledger: EffectLedger,
    ) -> Grant:
        self.granted.append((tuple(hosts), tuple(secrets)))
        names = tuple(secret.name for secret in secrets)
        late = EgressRequested(
            host=hosts[0], port=443, method="GET", outcome="allowed", status=200, secrets=names
        )
        token = str(uuid4())
        self.open[token] = lambda: report(late)
        return Grant(token)

    async def revoke(self, token: str) -> None:
        if token in self.open:
            self.open.pop(token)()


@dataclass
class World:
    """A worker's parts around one person, and one queue of the test's own."""

    client: AsyncClient
    database: asyncpg.Connection[Any]
    folder: Path
    person: UUID
    queue_name: str = field(default_factory=lambda: f"q-{uuid4()}")
    broker: Broker = field(default_factory=Broker)
    way_out: EgressBroker | None = None

    async def ask(self, **columns: Any) -> int:
        given = {"user_id": self.person, "prompt": "do it", "queue": self.queue_name} | columns
        marks = ", ".join(f"${number}" for number in range(1, len(given) + 1))
        return await self.database.fetchval(
            f"insert into public.tasks ({', '.join(given)}) values ({marks}) returning id", *given.values()
        )

    async def secret(
        self, name: str, value: str, host: str, *, raw: bool = False, key: WorkerKey = KEY
    ) -> None:
        await SupabaseSecrets(self.client).publish(key.key_id, key.public_key)
        await self.database.execute(
            """insert into public.secrets (user_id, name, hosts, raw, ciphertext, key_id)
            values ($1, $2, $3, $4, $5, $6)""",
            self.person,
            name,
            [host],
            raw,
            seal(key.public_key, value),
            key.key_id,
        )

    async def work(self, program: str, **config: Any) -> asyncpg.Record:
        """Claim the one task there is, work on it, and return its row."""
        worker = uuid4()
        queue = SupabaseQueue(self.client, worker=worker, lease_seconds=30, queue=self.queue_name)
        (task,) = (await queue.claim(1, [])).tasks
        attempt = Attempt(
            task,
            config=WorkerConfig(supabase_url="", supabase_key="", home=self.folder, **config),
            queue=queue,
            journal=queue,
            files=SupabaseFiles(self.client),
            runners=Runners(program, self.folder),  # pyright: ignore[reportArgumentType]
            sandbox_socket=self.folder / "none.sock",
            folder=self.folder,
            means=Means(store=SupabaseSecrets(self.client), key=KEY, broker=self.way_out or self.broker),
            records=SupabaseRecords(self.client),
            pricing=Pricing(SupabasePrices(self.client)),
            effects=queue,
        )
        await attempt.work()
        assert not list(self.folder.iterdir()), "an attempt leaves nothing on the worker's disk"
        return await self.row(task.id)

    async def row(self, task: int) -> asyncpg.Record:
        row = await self.database.fetchrow("select * from public.tasks where id = $1", task)
        assert row is not None
        return row

    async def events(self, task: int) -> list[dict[str, Any]]:
        rows = await self.database.fetch(
            "select kind, data from public.task_events where task_id = $1 order by attempt, seq", task
        )
        return [{"kind": row["kind"], **json.loads(row["data"])} for row in rows]

    async def everything(self) -> str:
        """All rows of all tables that hold something of the person's, as text."""
        found: list[str] = []
        for table in (
            "tasks",
            "task_events",
            "task_steps",
            "messages",
            "artifacts",
            "variables",
            "threads",
            "effects",
            "approvals",
            "task_items",
        ):
            rows = await self.database.fetch(
                f"select t::text as row from public.{table} t where user_id = $1", self.person
            )
            found += [row["row"] for row in rows]
        return "\n".join(found)

    async def stored(self) -> dict[str, bytes]:
        names = await self.database.fetch(
            "select name from storage.objects where bucket_id = $1 and name like $2",
            BUCKET,
            f"{self.person}/%",
        )
        bucket = self.client.storage.from_(BUCKET)
        return {row["name"]: await bucket.download(row["name"]) for row in names}
