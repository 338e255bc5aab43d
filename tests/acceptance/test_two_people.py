"""Two people, everything running: each sees only their own rows, files and broadcasts, whatever they try."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import psutil
import pytest
from realtime import AsyncRealtimeClient, RealtimeSubscribeStates
from websockets.exceptions import WebSocketException

from tests.acceptance.person import DEMO, Person, sign_up
from tests.acceptance.stack import Stack, running_stack, until

pytestmark = pytest.mark.timeout(120)
TABLES = (
    "profiles",
    "threads",
    "tasks",
    "messages",
    "task_steps",
    "task_events",
    "artifacts",
    "task_overview",
)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack() as made:
        yield made


@pytest.fixture(scope="module")
def people(stack: Stack) -> tuple[Person, Person, int]:
    """Alice, Bob, and a finished task of Alice's with an artifact."""
    alice, bob = sign_up(stack, "alice"), sign_up(stack, "bob")
    task = alice.ask()
    row = until(lambda: (r := stack.task(task))["finished_at"] and r, seconds=30, what="the task")
    assert (row["state"], row["verdict"]) == ("succeeded", "proven"), row["error"]
    return alice, bob, task


def test_rows_of_another_cannot_be_read(people: tuple[Person, Person, int]) -> None:
    alice, bob, _ = people
    for table in TABLES:
        assert alice.rows(table), f"Alice sees her own {table}"
        theirs = bob.rows(table)
        assert all(
            row.get("user_id", row["id"] if table == "profiles" else bob.id) == bob.id for row in theirs
        ), table
        if table != "profiles":
            assert theirs == [], table


def test_rows_of_another_cannot_be_named(people: tuple[Person, Person, int]) -> None:
    alice, bob, task = people
    for table, column in (
        ("task_events", "task_id"),
        ("task_steps", "task_id"),
        ("artifacts", "task_id"),
        ("tasks", "id"),
    ):
        assert bob.rows(f"{table}?{column}=eq.{task}") == []
    thread = alice.rows("threads")[0]["id"]
    file = {"name": "x", "storage_path": f"{alice.id}/uploads/1/own.csv"}
    claim = {"worker": bob.id, "queue": "default", "most": 9, "lease_seconds": 9}
    ending = {"answer": "x", "verdict": "unverified", "evidence": [], "usage": {}}
    for function, arguments in (
        ("cancel_task", {"task_id": task}),
        ("retry_task", {"task_id": task}),
        ("enqueue_task", {"prompt": "into her thread", "thread_id": thread}),
        ("enqueue_task", {"prompt": "with her file", "inputs": [file]}),
        ("claim_tasks", claim),
        ("recover_tasks", {"worker": bob.id}),
        ("finish_task", {"worker": bob.id, "task_id": task, "attempt": 1, **ending}),
    ):
        answer = bob.call("POST", f"rest/v1/rpc/{function}", json=arguments)
        assert 400 <= answer.status_code < 500, f"{function}: {answer.status_code} {answer.text}"
    for method, path, body in (
        ("PATCH", f"tasks?id=eq.{task}", {"answer": "changed"}),
        ("DELETE", f"tasks?id=eq.{task}", None),
        ("PATCH", f"threads?id=eq.{thread}", {"title": "taken over"}),
        ("DELETE", f"threads?id=eq.{thread}", None),
        ("PATCH", f"profiles?id=eq.{alice.id}", {"display_name": "taken over"}),
        ("POST", "messages", {"thread_id": thread, "role": "user", "content": "x"}),
        ("POST", "threads", {"title": "x", "user_id": alice.id}),
        ("POST", "tasks", {"prompt": "x", "user_id": alice.id}),
        ("PATCH", "assistants?id=eq.00000000-0000-4000-8000-000000000001", {"instructions": "obey"}),
    ):
        answer = bob.call(method, f"rest/v1/{path}", json=body, headers={"prefer": "return=representation"})
        assert answer.status_code >= 400 or answer.json() == [], f"{method} {path}: {answer.text}"
    assert alice.rows(f"threads?id=eq.{thread}")[0]["title"] != "taken over"
    assert alice.stack.task(task)["answer"] != "changed"


def test_files_of_another_cannot_be_read_listed_written_or_signed(people: tuple[Person, Person, int]) -> None:
    alice, bob, task = people
    own = f"{alice.id}/uploads/1/own.csv"
    alice.upload(own, b"a,b\n1,2\n").raise_for_status()
    (artifact,) = alice.rows(f"artifacts?task_id=eq.{task}")
    path = artifact["storage_path"]
    assert alice.call("GET", f"storage/v1/object/artifacts/{path}").status_code == 200
    for method, url, body in (
        ("GET", f"object/authenticated/artifacts/{path}", None),
        ("GET", f"object/artifacts/{path}", None),
        ("GET", f"object/public/artifacts/{path}", None),
        ("GET", f"object/info/artifacts/{path}", None),
        ("HEAD", f"object/authenticated/artifacts/{path}", None),
        ("POST", f"object/sign/artifacts/{path}", {"expiresIn": 60}),
        ("POST", f"object/artifacts/{alice.id}/uploads/1/evil.csv", None),
        ("PUT", f"object/artifacts/{alice.id}/uploads/1/own.csv", None),
        ("POST", f"object/artifacts/{bob.id}/../{alice.id}/uploads/1/evil.csv", None),
        ("POST", f"object/artifacts/{bob.id}/tasks/1/forged.csv", None),
        (
            "POST",
            "object/copy",
            {"bucketId": "artifacts", "sourceKey": path, "destinationKey": f"{bob.id}/uploads/stolen"},
        ),
        (
            "POST",
            "object/move",
            {"bucketId": "artifacts", "sourceKey": path, "destinationKey": f"{bob.id}/uploads/stolen"},
        ),
        ("PUT", "bucket/artifacts", {"id": "artifacts", "name": "artifacts", "public": True}),
        ("POST", "bucket", {"id": "mine", "name": "mine", "public": True}),
    ):
        answer = bob.call(
            method,
            f"storage/v1/{url}",
            **({"json": body} if body else {"content": b"x"} if method != "GET" else {}),
        )
        assert answer.status_code >= 400, f"{method} {url}: {answer.status_code} {answer.text[:200]}"
    for prefix in (alice.id, f"{alice.id}/uploads/1", f"{alice.id}/tasks/{task}", ""):
        answer = bob.call(
            "POST", "storage/v1/object/list/artifacts", json={"prefix": prefix, "limit": 100, "offset": 0}
        )
        assert answer.status_code >= 400 or (alice.id not in answer.text and "penguins" not in answer.text), (
            answer.text
        )
    bob.call("DELETE", f"storage/v1/object/artifacts/{path}")
    bob.call(
        "DELETE", "storage/v1/object/artifacts", json={"prefixes": [path, f"{alice.id}/uploads/1/own.csv"]}
    )
    assert alice.call("GET", f"storage/v1/object/artifacts/{path}").status_code == 200, "it is still there"
    assert alice.call("GET", f"storage/v1/object/artifacts/{own}").content == b"a,b\n1,2\n"


def forged(person: Person) -> dict[str, str]:
    now = int(time.time())
    claims = {
        "sub": person.id,
        "role": "authenticated",
        "aud": "authenticated",
        "exp": now + 3600,
        "iat": now,
    }
    secret = person.stack.keys["jwt_secret"]
    real = jwt.decode(person.token, options={"verify_signature": False})
    header, payload, signature = person.token.split(".")
    return {
        "another secret": jwt.encode(claims, "x" * 40, algorithm="HS256"),
        "no signature": jwt.encode(claims, None, algorithm="none"),
        "expired": jwt.encode({**real, "exp": now - 10, "iat": now - 100}, secret, algorithm="HS256"),
        "signature cut": f"{header}.{payload}.",
        "signature changed": f"{header}.{payload}.{signature[:-4]}AAAA",
        "role raised": jwt.encode({**claims, "role": "service_role"}, "x" * 40, algorithm="HS256"),
        "the publishable key": person.stack.keys["publishable_key"],
        "nonsense": "nonsense",
    }


def test_without_a_key_or_with_a_forged_token_nothing_is_given(people: tuple[Person, Person, int]) -> None:
    alice, _, task = people
    path = alice.rows(f"artifacts?task_id=eq.{task}")[0]["storage_path"]
    for what, token in forged(alice).items():
        for url in ("rest/v1/tasks", "rest/v1/task_events", f"storage/v1/object/artifacts/{path}"):
            answer = alice.call("GET", url, token=token)
            assert answer.status_code >= 400 or answer.json() == [], f"{what}: {url}: {answer.text[:200]}"
        answer = alice.call(
            "POST",
            "rest/v1/rpc/claim_tasks",
            token=token,
            json={"worker": alice.id, "queue": "default", "most": 1, "lease_seconds": 1},
        )
        assert answer.status_code >= 400, what
    for headers in ({}, {"authorization": f"Bearer {alice.token}"}, {"apikey": "sb_secret_guess"}):
        for url in ("rest/v1/tasks", f"storage/v1/object/artifacts/{path}", "auth/v1/user"):
            answer = httpx.get(f"{alice.stack.supabase}/{url}", headers=headers, timeout=20)
            assert answer.status_code in (400, 401, 403), (
                f"{headers}: {url}: {answer.status_code} {answer.text[:200]}"
            )


async def listen(
    stack: Stack, topic: str, token: str, *, key: str | None = None, private: bool = True
) -> tuple[str, list[Any], Any]:
    """Join a topic; returns the state that was reached, what was heard, and the client."""
    client = AsyncRealtimeClient(
        f"{stack.supabase}/realtime/v1",
        token=key or stack.keys["publishable_key"],
        auto_reconnect=False,
        max_retries=1,
    )
    heard: list[Any] = []
    states: list[str] = []
    await client.set_auth(token)
    channel = client.channel(
        topic,
        {
            "config": {
                "private": private,
                "broadcast": {"ack": True, "self": False},
                "presence": {"key": "", "enabled": False},
            }
        },
    )
    for event in ("task", "events", "queued", "cancel", "forged"):
        channel.on_broadcast(event, heard.append)

    def changed(state: RealtimeSubscribeStates, _error: Exception | None) -> None:
        states.append(state.value)

    await channel.subscribe(changed)
    return states[0], heard, client


async def test_broadcasts_of_another_are_not_heard(people: tuple[Person, Person, int]) -> None:
    alice, bob, task = people
    stack = alice.stack
    own, heard_by_alice, alice_client = await listen(stack, f"user:{alice.id}", alice.token)
    assert own == "SUBSCRIBED"
    state, heard_by_bob, bob_client = await listen(stack, f"user:{bob.id}", bob.token)
    assert state == "SUBSCRIBED"
    clients = [alice_client, bob_client]
    tries = [
        (f"user:{alice.id}", bob.token, True),
        (f"task:{task}", bob.token, True),
        ("queue", bob.token, True),
        (f"user:{alice.id}", bob.token, False),
        *((f"user:{alice.id}", token, True) for token in forged(alice).values()),
    ]
    heard_anywhere: list[Any] = []
    for topic, token, private in tries:
        try:
            state, heard, client = await listen(stack, topic, token, private=private)
        except (WebSocketException, OSError) as refused:  # the connection itself may be refused
            assert "401" in str(refused) or "403" in str(refused) or "connect" in str(refused).lower(), (
                refused
            )
            continue
        clients.append(client)
        heard_anywhere.append((topic, heard))
        if private:
            assert state != "SUBSCRIBED", f"{topic} could be joined"
    second = await asyncio.to_thread(alice.ask)
    async with asyncio.timeout(20):
        while not any(item["payload"].get("state") == "succeeded" for item in heard_by_alice):
            await asyncio.sleep(0.05)
    assert any(item["payload"].get("task_id") == second for item in heard_by_alice)
    assert heard_by_bob == []
    assert all(heard == [] for _, heard in heard_anywhere), heard_anywhere
    for client in clients:
        await client.close()


async def test_nobody_can_forge_a_broadcast(people: tuple[Person, Person, int]) -> None:
    alice, bob, _ = people
    state, heard, client = await listen(alice.stack, f"user:{alice.id}", alice.token)
    assert state == "SUBSCRIBED"
    message = {"topic": f"user:{alice.id}", "event": "forged", "payload": {"x": 1}, "private": True}
    for token in (bob.token, alice.token):
        await asyncio.to_thread(
            bob.call, "POST", "realtime/v1/api/broadcast", token=token, json={"messages": [message]}
        )
    own = client.get_channels()[0]
    await own.send_broadcast("forged", {"x": 1})
    inserted = await asyncio.to_thread(
        bob.call,
        "POST",
        "rest/v1/rpc/send",
        json={"payload": {}, "event": "forged", "topic": f"user:{alice.id}"},
    )
    assert inserted.status_code >= 400
    await asyncio.sleep(0.5)
    assert heard == []
    await client.close()


def test_every_port_that_listens_refuses_strangers(people: tuple[Person, Person, int]) -> None:
    """Whatever listens on TCP below the start command is either known here or a fault."""
    alice, _, _ = people
    stack = alice.stack
    listening = {
        connection.laddr.port: process.name()
        for process in [psutil.Process(stack.process.pid), *stack.descendants()]
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    for process in stack.descendants():
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip in ("127.0.0.1", "::1"), (
                    f"{process.name()} listens on {connection.laddr}"
                )
    studio = set(listening) - set(stack.ports.values())
    assert len(studio) <= 1, f"unexpected listeners: {listening}"
    secrets = [alice.id, stack.keys["secret_key"], DEMO]
    for port in listening:
        for headers in (
            {},
            {"host": "evil.example"},
            {"origin": "http://evil.example"},
            {"host": "127.0.0.1.evil.example"},
        ):
            for path in (
                "/",
                "/rest/v1/tasks",
                "/auth/v1/admin/users",
                "/api/tasks",
                "/storage/v1/bucket",
                "/keys.json",
                "/../.env",
                "/readyz",
                "/health",
            ):
                try:
                    answer = httpx.get(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=10)
                except httpx.HTTPError as error:
                    pytest.fail(f"port {port} {path}: {error!r}")
                for secret in secrets:
                    assert secret not in answer.text, f"port {port} {path} {headers} tells {secret!r}"
                if port in studio or port == stack.ports["PYTHONIC_SUPABASE_PORT"]:
                    assert answer.status_code in (400, 401, 403, 404, 421) or path == "/health", (
                        f"{port}{path}: {answer.status_code}"
                    )


def test_the_page_process_knows_no_secret(people: tuple[Person, Person, int]) -> None:
    stack = people[0].stack
    (page,) = stack.find("-m live")
    environment = json.dumps(page.environ())
    assert stack.keys["secret_key"] not in environment
    assert stack.keys["jwt_secret"] not in environment
    for process in stack.descendants():
        assert stack.keys["secret_key"] not in " ".join(process.cmdline())
