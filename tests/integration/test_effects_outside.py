"""Actions outside, through a real attempt, real sockets and real rows: once, whatever is interrupted.

The runner is a program of the test, so that it can die, and lie, at the very moment that is meant.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pythonic_assistant.adapters.egress.broker import EgressBroker
from pythonic_assistant.adapters.egress.policy import read_routes
from pythonic_assistant.domain.errors import ToolError
from pythonic_assistant.domain.tool import ToolSpec
from pythonic_assistant.tools.registry import Reconciled, Tool
from tests.integration.attempt_world import World
from tests.integration.ledger_desk import become
from tests.servers.effects import Effects, effects_server
from worker.tools import TOOLS, Context, register

pytestmark = pytest.mark.timeout(90)

HOST = "api.example.org"
CANARY = "swapped-canary-4711"

SENDER = """
import asyncio, socket, threading, urllib.error, urllib.request
from pathlib import Path
from pythonic_assistant.adapters.egress.client import BrokerEgress
from pythonic_assistant.domain.effect import Place
grant = order["egress"]
opener = None
serial = 0
def post(path="/items", body="{}", **headers):
    asked = urllib.request.Request("http://api.example.org" + path, data=body.encode(), method="POST",
        headers={"Content-Type": "application/json", **headers})
    try:
        with opener.open(asked, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
def act(code, step_id="s1", execution=1, rerun=False):
    async def main():
        global opener, serial
        serial += 1
        listener = socket.create_server(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
        egress = BrokerEgress(Path(grant["socket"]), grant["token"], grant["certificate"], request["hosts"])
        async with egress.serve(listener):
            await egress.at(Place(step_id=step_id, execution=execution, rerun=rerun, serial=serial))
            return await asyncio.to_thread(code)
    return asyncio.run(main())
"""
CALLER = """
def call(tool, place=None, **arguments):
    place = {"step_id": "s1", "execution": 1, "serial": 1, **(place or {})}
    print(json.dumps({"ask": {"id": 1, "tool": tool, "arguments": arguments, "place": place}}), flush=True)
    return json.loads(sys.stdin.readline())["answer"]
"""
DIE = "\nos._exit(1)\n"


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")  # not `tmp_path`, which is the worker's


@pytest.fixture
def effects(place: Path) -> Iterator[Effects]:
    with effects_server(place) as server:
        yield server


@asynccontextmanager
async def way_out(world: World, effects: Effects, folder: Path) -> AsyncIterator[None]:
    routes = read_routes(f"{HOST}={effects.url}")
    async with EgressBroker(folder / "b" / "out", routes=routes) as world.way_out:
        yield


async def again(world: World, task: int) -> None:
    """Make an attempt that failed due at once."""
    await world.database.execute(
        "update public.tasks set run_at = now() where id = $1 and state = 'scheduled'", task
    )


async def pending(world: World, task: int) -> Any:
    rows = await world.database.fetch(
        "select * from public.approvals where task_id = $1 and state = 'pending'", task
    )
    assert len(rows) == 1, rows
    return rows[0]


async def decide(world: World, approval: int, decision: str, answer: str | None = None, **more: bool) -> Any:
    async with world.database.transaction():
        await become(world.database, world.person)
        return await world.database.fetchval(
            "select public.decide_approval($1, $2, $3, $4)",
            approval,
            decision,
            answer,
            more.get("always", False),
        )


async def test_a_request_is_sent_once_and_its_answer_given_again(
    world: World, effects: Effects, place: Path
) -> None:
    await world.secret("TOKEN", CANARY, HOST)
    task = await world.ask(hosts=[HOST])
    sending = SENDER + (
        'send = lambda: [post(Authorization="Bearer " + request["environment"]["TOKEN"]) for _ in range(2)]\n'
    )
    async with way_out(world, effects, place):
        row = await world.work(sending + "act(send)" + DIE)
        assert row["state"] == "scheduled"
        await again(world, task)
        # The same code once more, a fix of it, and a rebuilding: none of them acts again.
        row = await world.work(
            sending
            + "one, two, three = act(send), act(send, execution=2), act(send, execution=2, rerun=True)\n"
            + "fresh = act(lambda: post('/new'), execution=2, rerun=True)\n"
            + "succeed(json.dumps([one, two, three, fresh]))"
        )
    assert row["state"] == "succeeded", row["error"]
    one, two, three, fresh = json.loads(row["answer"])
    assert one == two == three and [status for status, _ in one] == [201, 201]
    assert fresh[0] == 403 and "runs once more to rebuild" in fresh[1]
    done = effects.done()
    assert len(effects.received()) == len(done) == 2, "two deliberate requests, each once"
    assert {row["authorization"] for row in done} == {f"Bearer {CANARY}"}
    assert CANARY not in await world.everything()
    request = json.loads(
        await world.database.fetchval("select request from public.effects where task_id = $1 limit 1", task)
    )
    assert {"name": "Authorization", "value": "Bearer {TOKEN}"} in request["headers"]


async def test_an_unknown_outcome_waits_for_word_and_is_not_sent_again(
    world: World, effects: Effects, place: Path
) -> None:
    task = await world.ask(hosts=[HOST])
    sending = SENDER + 'status, text = act(lambda: post("/items?drop=after&once"))\n'
    async with way_out(world, effects, place):
        await world.work(sending + DIE)
        await again(world, task)
        row = await world.work(sending + "succeed(text)")
        assert (row["state"], row["worker_id"]) == ("waiting", None)
        assert "whether it happened" in row["waiting_for"]
        assert len(effects.received()) == 1
        asked = await pending(world, task)
        assert asked["kind"] == "unknown"
        await decide(world, asked["id"], "happened")
        row = await world.work(sending + "succeed(f'{status} {text}')")
    assert row["answer"].startswith("502 ") and "has seen that this happened" in row["answer"]
    assert len(effects.received()) == 1


async def test_what_a_person_says_did_not_happen_is_done(world: World, effects: Effects, place: Path) -> None:
    task = await world.ask(hosts=[HOST])
    sending = SENDER + 'status, text = act(lambda: post("/items?drop=before&once"))\n'
    async with way_out(world, effects, place):
        await world.work(sending + DIE)
        await again(world, task)
        assert (await world.work(sending + "succeed(text)"))["state"] == "waiting"
        await decide(world, (await pending(world, task))["id"], "again")
        row = await world.work(sending + "succeed(str(status))")
    assert row["answer"] == "201"
    assert len(effects.received()) == 1


async def test_a_key_that_the_code_chose_settles_an_unknown_outcome(
    world: World, effects: Effects, place: Path
) -> None:
    task = await world.ask(hosts=[HOST])
    sending = SENDER + (
        'key = {"Idempotency-Key": str(time.time())}\n'
        'status, text = act(lambda: post("/items?drop=after&once", **key))\n'
    )
    async with way_out(world, effects, place):
        await world.work(sending + DIE)
        await again(world, task)
        row = await world.work(sending + "succeed(str(status))")
    assert row["answer"] == "201", row["error"]
    first, second = effects.received()
    assert first["key"] == second["key"] and second["again"]
    assert len(effects.done()) == 1


async def test_a_worker_that_dies_in_the_middle_leaves_a_question(
    world: World, effects: Effects, place: Path
) -> None:
    task = await world.ask(hosts=[HOST])
    sending = SENDER + 'act(lambda: post("/items?delay=20&once"))\n'
    async with way_out(world, effects, place):
        working = asyncio.create_task(world.work(sending))
        while not effects.received():
            await asyncio.sleep(0.02)
        # As kill -9: nothing is told any more, and the lease ends by itself.
        await world.database.execute(
            """update public.tasks set lease_until = now() - interval '1 second',
                worker_id = gen_random_uuid()
            where id = $1""",
            task,
        )
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        row = await world.work(sending)
    assert row["state"] == "waiting", row["error"]
    assert len(effects.received()) == 1


class Sending:
    """A tool of the tests: it tells the server, as a tool that sends messages would."""

    def __init__(self, effects: Effects, risk: Any, *, reconciles: bool) -> None:
        self.url = effects.url
        spec = ToolSpec(
            name="send_message",
            description="Sends a message.",
            parameters={
                "type": "object",
                "properties": {"to": {"type": "string"}, "text": {"type": "string"}},
                "required": ["to", "text"],
            },
            risk=risk,
            recipients=("to",),
        )
        self.tool = Tool[Context](spec=spec, act=self.act, reconcile=self.reconcile if reconciles else None)

    async def act(self, _: Context, arguments: Mapping[str, Any], key: str) -> Any:
        if arguments["to"] == "nobody":
            raise ToolError("There is nobody of this name.")
        query = "?drop=after" if arguments["to"] == "silent" else ""
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(
                f"{self.url}/send{query}", json=dict(arguments), headers={"Idempotency-Key": key}
            )
        return {"message_id": answer.json()["id"]}

    async def reconcile(self, _: Context, __: Mapping[str, Any], key: str) -> Reconciled:
        async with httpx.AsyncClient(trust_env=False) as client:
            rows = (await client.get(f"{self.url}/done", params={"key": key})).json()
        return Reconciled(bool(rows), {"message_id": rows[0]["id"]} if rows else None)


@pytest.fixture
def tool(effects: Effects, request: pytest.FixtureRequest) -> Iterator[Sending]:
    risk, reconciles = getattr(request, "param", ("irreversible", False))
    made = Sending(effects, risk, reconciles=reconciles)
    register(made.tool)
    yield made
    del TOOLS["send_message"]


async def granted(world: World, **columns: Any) -> int:
    assistant = await world.database.fetchval(
        """insert into public.assistants (user_id, name, tools, write_policy) values ($1, 'A', $2, $3)
        returning id""",
        world.person,
        ["send_message", "ask_person"],
        columns.pop("write_policy", "allow"),
    )
    return await world.ask(assistant_id=assistant, **columns)


HELLO = CALLER + 'said = call("send_message", to="Ann", text="Hello \\u202eevil\\u202c {}")\n'


@pytest.mark.usefixtures("tool")
async def test_what_cannot_be_undone_waits_for_a_yes_to_exactly_that(world: World, effects: Effects) -> None:
    task = await granted(world)
    row = await world.work(HELLO + "succeed(json.dumps(said))")
    assert (row["state"], row["waiting_for"]) == ("waiting", "a decision: send_message")
    assert effects.received() == []
    asked = await pending(world, task)
    preview = json.loads(asked["preview"])
    assert preview["form"] == "fields"
    assert {"name": "to", "value": "Ann"} in preview["fields"]
    shown = next(field["value"] for field in preview["fields"] if field["name"] == "text")
    assert shown == "Hello ⟨U+202E⟩evil⟨U+202C⟩ {}", "nothing turns the direction of what is read"
    await decide(world, asked["id"], "approve", always=True)
    row = await world.work(HELLO + "succeed(json.dumps(said))")
    assert json.loads(row["answer"])["value"] == {"message_id": 1}, row["error"]
    # The rule is for Ann, and for nobody else; a runner that lies about steps and executions changes nothing.
    second = await granted(world)
    row = await world.work(
        HELLO + 'call("send_message", {"step_id": "s9", "execution": 9, "rerun": False}, to="Bob", text="x")'
    )
    assert (row["id"], row["state"]) == (second, "waiting")
    assert [json.loads(row["body"])["to"] for row in effects.done()] == ["Ann", "Ann"]


@pytest.mark.usefixtures("tool")
async def test_what_a_person_refuses_is_an_error_with_which_the_code_goes_on(
    world: World, effects: Effects
) -> None:
    task = await granted(world)
    await world.work(HELLO)
    await decide(world, (await pending(world, task))["id"], "refuse", "Not today")
    row = await world.work(HELLO + "succeed(said['error'])")
    assert row["answer"].startswith("The person refused this action: Not today.")
    assert effects.received() == []


@pytest.mark.parametrize("tool", [("write", True)], indirect=True)
@pytest.mark.usefixtures("tool")
async def test_a_tool_that_can_look_settles_its_own_unknown_outcome(world: World, effects: Effects) -> None:
    task = await granted(world)
    lost = CALLER + 'said = call("send_message", to="silent", text="x")\n'
    assert (await world.work(lost + DIE))["state"] == "scheduled"
    await again(world, task)
    row = await world.work(lost + "succeed(json.dumps(said))")
    assert json.loads(row["answer"])["value"] == {"message_id": 1}, row["error"]
    assert len(effects.received()) == 1
    assert (
        await world.database.fetchval("select state from public.effects where task_id = $1", task)
    ) == "succeeded"


@pytest.mark.parametrize("tool", [("write", False)], indirect=True)
@pytest.mark.usefixtures("tool")
async def test_writing_is_free_unless_the_assistant_asks(world: World, effects: Effects) -> None:
    free = CALLER + (
        'one = call("send_message", to="Ann", text="x")\n'
        'wrong = call("send_message", to="nobody", text="x")\n'
    )
    await granted(world)
    row = await world.work(free + "succeed(wrong['error'])")
    assert row["answer"] == "There is nobody of this name."
    await granted(world, write_policy="ask")
    assert (await world.work(free))["state"] == "waiting"
    assert len(effects.received()) == 1


async def test_a_question_waits_for_its_answer(world: World) -> None:
    task = await world.ask()
    asking = CALLER + 'said = call("ask_person", question="Which one?", choices=["red", "blue"])\n'
    row = await world.work(asking)
    assert (row["state"], row["waiting_for"]) == ("waiting", "a decision: Which one?")
    asked = await pending(world, task)
    assert (asked["kind"], asked["question"], json.loads(asked["choices"])) == (
        "question",
        "Which one?",
        ["red", "blue"],
    )
    await decide(world, asked["id"], "answer", "blue")
    row = await world.work(asking + "succeed(said['value'])")
    assert row["answer"] == "blue", row["error"]
