"""The official Python clients against the embedded Supabase, as they are against a hosted one."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import httpx
import pytest
from postgrest.exceptions import APIError
from realtime import AsyncRealtimeChannel
from storage3.exceptions import StorageApiError
from supabase import AsyncClient, AsyncClientOptions, Client, ClientOptions, acreate_client, create_client

from tests.embedded_fixtures import RunningSupabase

PRIVATE = {"config": {"private": True}}

Connect = Callable[[str], Awaitable[AsyncClient]]


@pytest.fixture
async def connect(small_supabase: RunningSupabase) -> AsyncIterator[Connect]:
    """Makes clients with a key, and closes what they leave open: they have no close() of their own."""
    async with AsyncExitStack() as stack:

        async def make(key: str) -> AsyncClient:
            http = await stack.enter_async_context(httpx.AsyncClient(timeout=20, follow_redirects=True))
            options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False)
            client = await acreate_client(small_supabase.url, key, options)
            stack.push_async_callback(client.realtime.close)
            return client

        yield make


@pytest.fixture
async def newcomer(small_supabase: RunningSupabase, connect: Connect) -> Callable[[], Awaitable[AsyncClient]]:
    """Makes people: a fresh account each, signed in."""

    async def make() -> AsyncClient:
        account = small_supabase.sign_up()
        client = await connect(small_supabase.publishable_key)
        await client.auth.sign_in_with_password({"email": account["email"], "password": account["password"]})
        return client

    return make


@pytest.fixture
async def person(newcomer: Callable[[], Awaitable[AsyncClient]]) -> AsyncClient:
    return await newcomer()


async def user_id(client: AsyncClient) -> str:
    answer = await client.auth.get_user()
    assert answer is not None
    return answer.user.id


async def joined(channel: AsyncRealtimeChannel) -> str:
    """Subscribe and return the first state, with the reason of a refusal."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    await channel.subscribe(lambda state, error: heard.put_nowait(f"{state.value} {error or ''}".strip()))
    return await asyncio.wait_for(heard.get(), 5)


def test_sync_client_signs_up_and_works_under_row_level_security(small_supabase: RunningSupabase) -> None:
    account = small_supabase.sign_up()
    with ExitStack() as stack:

        def connect_sync(key: str) -> Client:
            http = stack.enter_context(httpx.Client(timeout=20))
            return create_client(
                small_supabase.url, key, ClientOptions(httpx_client=http, auto_refresh_token=False)
            )

        client = connect_sync(small_supabase.publishable_key)
        session = client.auth.sign_in_with_password(
            {"email": account["email"], "password": account["password"]}
        )
        assert session.user is not None and session.user.created_at.tzinfo is not None
        row = client.table("notes").insert({"body": "mine", "embedding": "[1,2,3]"}).execute().data[0]
        assert row["owner"] == session.user.id
        assert client.rpc("add_numbers", {"a": 2, "b": 3}).execute().data == 5
        with pytest.raises(APIError, match="permission denied"):
            client.rpc("count_all_notes").execute()
        stranger = connect_sync(small_supabase.publishable_key)
        assert stranger.table("notes").select("*").execute().data == []
        worker = connect_sync(small_supabase.secret_key)
        assert row["id"] in [entry["id"] for entry in worker.table("notes").select("id").execute().data]
        assert worker.rpc("count_all_notes").execute().data >= 1


async def test_what_a_migration_revokes_stays_revoked(person: AsyncClient) -> None:
    row = (await person.table("notes").insert({"body": "fixed"}).execute()).data[0]
    with pytest.raises(APIError, match="permission denied"):
        await person.table("notes").update({"body": "changed"}).eq("id", row["id"]).execute()


async def test_the_local_user_can_sign_in(small_supabase: RunningSupabase, connect: Connect) -> None:
    email, password = small_supabase.local_user
    client = await connect(small_supabase.publishable_key)
    answer = await client.auth.sign_in_with_password({"email": email, "password": password})
    assert answer.user is not None and answer.user.email == email
    assert answer.session is not None
    renewed = await client.auth.refresh_session()
    assert renewed.session is not None and renewed.session.refresh_token != answer.session.refresh_token


async def test_storage_keeps_people_in_their_own_folder(
    small_supabase: RunningSupabase,
    connect: Connect,
    newcomer: Callable[[], Awaitable[AsyncClient]],
    person: AsyncClient,
) -> None:
    own, content = await user_id(person), b"a,b\n1,2\n" * 1000
    bucket = person.storage.from_("artifacts")
    await bucket.upload(f"{own}/uploads/table.csv", content, {"content-type": "text/csv"})
    assert await bucket.download(f"{own}/uploads/table.csv") == content
    listed = [entry["name"] for entry in await bucket.list(f"{own}/uploads")]
    assert len(listed) == 1 and listed[0].endswith("table.csv")  # lite lists whole paths: docs say so
    signed = await bucket.create_signed_url(f"{own}/uploads/table.csv", 60)
    async with httpx.AsyncClient() as plain:  # no key: the address is the proof
        assert (await plain.get(signed["signedURL"])).content == content
        assert (await plain.get(signed["signedURL"] + "x")).is_error
    with pytest.raises(StorageApiError):
        await bucket.upload("somebody-else/uploads/table.csv", content)
    other = await newcomer()
    theirs = other.storage.from_("artifacts")
    for attempt in (
        theirs.download(f"{own}/uploads/table.csv"),
        theirs.create_signed_url(f"{own}/uploads/table.csv", 60),
        theirs.move(f"{own}/uploads/table.csv", f"{await user_id(other)}/stolen.csv"),
        theirs.copy(f"{own}/uploads/table.csv", f"{await user_id(other)}/stolen.csv"),
        theirs.upload(f"{own}/uploads/table.csv", b"changed", {"upsert": "true"}),
    ):
        with pytest.raises(StorageApiError):
            await attempt
    assert await theirs.list(f"{own}/uploads") == []
    assert await theirs.remove([f"{own}/uploads/table.csv"]) == []
    assert await bucket.download(f"{own}/uploads/table.csv") == content
    worker = await connect(small_supabase.secret_key)
    assert await worker.storage.from_("artifacts").download(f"{own}/uploads/table.csv") == content
    assert [entry["name"] for entry in await bucket.remove([f"{own}/uploads/table.csv"])] == [
        f"{own}/uploads/table.csv"
    ]


async def test_a_row_reaches_its_owner_within_twenty_milliseconds(
    small_supabase: RunningSupabase, connect: Connect, person: AsyncClient
) -> None:
    own = await user_id(person)
    heard: asyncio.Queue[tuple[float, dict[str, Any]]] = asyncio.Queue()
    channel = person.channel(f"user:{own}", PRIVATE)
    channel.on_broadcast("note", lambda message: heard.put_nowait((time.perf_counter(), message)))
    assert await joined(channel) == "SUBSCRIBED"
    delays: list[float] = []
    for number in range(30):
        await person.table("notes").insert({"body": f"note {number}"}).execute()
        answered = time.perf_counter()
        at, message = await asyncio.wait_for(heard.get(), 5)
        assert message["payload"]["body"] == f"note {number}"
        delays.append(at - answered)  # negative when the event overtakes the answer to the insert
    assert statistics.quantiles(delays, n=20)[-1] < 0.020
    await channel.unsubscribe()


async def test_a_message_larger_than_a_notification_arrives_whole(person: AsyncClient) -> None:
    own = await user_id(person)
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    channel = person.channel(f"changes:{own}", PRIVATE)
    channel.on_broadcast("INSERT", heard.put_nowait)
    assert await joined(channel) == "SUBSCRIBED"
    body = "ä" * 50_000
    await person.table("notes").insert({"body": body}).execute()
    message = await asyncio.wait_for(heard.get(), 5)
    change = message["payload"]
    assert (change["operation"], change["table"], change["schema"]) == ("INSERT", "notes", "public")
    assert change["record"]["body"] == body and change["old_record"] is None


async def test_private_channels_obey_row_level_security(
    small_supabase: RunningSupabase, connect: Connect, person: AsyncClient
) -> None:
    stranger = small_supabase.sign_up()["user"]["id"]
    assert "Unauthorized" in await joined(person.channel(f"user:{stranger}", PRIVATE))
    anonymous = await connect(small_supabase.publishable_key)
    assert "Unauthorized" in await joined(anonymous.channel("room:1", PRIVATE))
    worker = await connect(small_supabase.secret_key)
    assert await joined(worker.channel(f"user:{stranger}", PRIVATE)) == "SUBSCRIBED"
    assert "PrivateOnly" in await joined(worker.channel("room:1"))


async def test_people_in_a_room_hear_and_see_each_other(
    small_supabase: RunningSupabase, connect: Connect, person: AsyncClient
) -> None:
    worker = await connect(small_supabase.secret_key)
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    came: asyncio.Queue[str] = asyncio.Queue()
    went: asyncio.Queue[str] = asyncio.Queue()
    mine = person.channel("room:2", {"config": {"private": True, "presence": {"key": "person"}}})
    mine.on_broadcast("hello", heard.put_nowait)
    mine.on_presence_join(lambda key, _current, _new: came.put_nowait(key))
    mine.on_presence_leave(lambda key, _current, _left: went.put_nowait(key))
    assert await joined(mine) == "SUBSCRIBED"
    theirs = worker.channel("room:2", {"config": {"private": True, "presence": {"key": "worker"}}})
    assert await joined(theirs) == "SUBSCRIBED"
    await theirs.send_broadcast("hello", {"from": "worker"})
    assert (await asyncio.wait_for(heard.get(), 5))["payload"] == {"from": "worker"}
    await theirs.track({"slots": 4})
    assert await asyncio.wait_for(came.get(), 5) == "worker"
    assert mine.presence_state()["worker"][0]["slots"] == 4
    await worker.realtime.close()  # no goodbye: the socket is simply gone
    assert await asyncio.wait_for(went.get(), 5) == "worker"
    await mine.unsubscribe()


async def test_the_http_broadcast_reaches_the_room(
    small_supabase: RunningSupabase, connect: Connect, person: AsyncClient
) -> None:
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    channel = person.channel("room:3", PRIVATE)
    channel.on_broadcast("news", heard.put_nowait)
    assert await joined(channel) == "SUBSCRIBED"
    message = {"topic": "room:3", "event": "news", "payload": {"n": 1}, "private": True}
    async with httpx.AsyncClient(base_url=small_supabase.url) as plain:
        path = "/realtime/v1/api/broadcast"
        allowed = await plain.post(
            path, json={"messages": [message]}, headers={"apikey": small_supabase.secret_key}
        )
        refused = await plain.post(
            path, json={"messages": [message]}, headers={"apikey": small_supabase.publishable_key}
        )
    assert (allowed.status_code, refused.status_code) == (202, 403)
    assert (await asyncio.wait_for(heard.get(), 5))["payload"] == {"n": 1}
    await channel.unsubscribe()


async def test_postgres_changes_are_refused_with_a_reason(person: AsyncClient) -> None:
    channel = person.channel("room:4", PRIVATE)
    channel.on_postgres_changes("INSERT", lambda _message: None, table="notes", schema="public")
    assert "PostgresChangesNotSupported" in await joined(channel)
