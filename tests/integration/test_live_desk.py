"""What the page does with a person's rows and files, in a real database with a real Storage."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from live.desk import Desk
from live.rows import ASSISTANT_ID
from live.secret_desk import SecretDesk
from live.supabase_access import SupabaseAccess
from pythonic_assistant.adapters.secrets import vault
from pythonic_assistant.domain.errors import InvalidInputError
from tests.acceptance.page_world import PlayedWorker
from tests.embedded_fixtures import RunningSupabase


async def test_a_deleted_thread_leaves_no_file(embedded_supabase: RunningSupabase) -> None:
    person = embedded_supabase.sign_up()
    user_id = str(person["user"]["id"])

    async def token() -> str:
        return str(person["access_token"])

    worker = PlayedWorker(backend=embedded_supabase)
    async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
        access = SupabaseAccess(
            url=embedded_supabase.url, publishable_key=embedded_supabase.publishable_key, http=http
        )
        desk = Desk(access, user_id, token)
        deleted = [await desk.upload(name, b"a\n1\n", "text/csv") for name in ("data.csv", "gone.csv")]
        kept = await desk.upload("data.csv", b"b\n2\n", "text/csv")
        task = await desk.enqueue("Sum it", dedupe_key="deleted", inputs=deleted)
        await desk.enqueue("Sum the other", dedupe_key="kept", inputs=[kept])
        claim = await worker.claim()
        while claim.task_id != task.id:
            claim = await worker.claim()
        await worker.save(claim, "out/plot.png", b"png", "image/png")
        await worker.keep(claim, "total", b"1")
        await worker.finish(claim, "1", "unverified")
        paths = [str(file["storage_path"]) for file in deleted] + [
            artifact.storage_path for artifact in await desk.artifacts([task.id])
        ]
        paths.append(f"{user_id}/variables/{task.thread_id}/total.json")
        assert len(paths) == 4

        async def there(path: str) -> bool:
            answer = await worker.http.get(f"/storage/v1/object/artifacts/{path}")
            return answer.status_code == 200

        assert [await there(path) for path in paths] == [True, True, True, True]
        gone = await worker.http.request(
            "DELETE", "/storage/v1/object/artifacts", json={"prefixes": [paths[1]]}
        )
        assert gone.status_code == 200
        assert [await there(path) for path in paths] == [True, False, True, True]
        assert task.thread_id is not None
        await desk.delete_thread(task.thread_id)
        assert [await there(path) for path in paths] == [False, False, False, False]
        assert await there(str(kept["storage_path"]))
        assert task.thread_id not in [thread.id for thread in await desk.threads()]
    await worker.close()


async def test_threads_tell_of_their_last_task_and_files_that_storage_refuses_are_not_begun(
    embedded_supabase: RunningSupabase,
) -> None:
    person = embedded_supabase.sign_up()

    async def token() -> str:
        return str(person["access_token"])

    async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
        access = SupabaseAccess(
            url=embedded_supabase.url, publishable_key=embedded_supabase.publishable_key, http=http
        )
        desk = Desk(access, str(person["user"]["id"]), token)
        first = await desk.enqueue("One", dedupe_key="1")
        await desk.cancel(first.id)
        [thread] = await desk.threads()
        assert (thread.state, thread.busy) == ("cancelled", False)
        last = await desk.enqueue("Two", dedupe_key="2", thread_id=thread.id)
        [thread] = await desk.threads()
        assert (thread.state, thread.busy) == (last.state, True)
        await desk.cancel(last.id)
        given = [("a.csv", b"1", "text/csv"), ("a.csv", b"2", "text/csv")]
        assert [entry["name"] for entry in await desk.upload_all(given)] == ["a.csv", "a-2.csv"]
        with pytest.raises(InvalidInputError, match=r"empty\.csv is empty"):
            await desk.upload_all([*given, ("empty.csv", b"", "text/csv")])
        with pytest.raises(InvalidInputError, match=r"big\.csv is too large: up to 50 MB"):
            await desk.upload_all([("big.csv", bytes(50 * 1024 * 1024 + 1), "text/csv")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Someone:
    """A person who is signed in, and what they can do."""

    id: str
    desk: Desk
    secrets: SecretDesk
    rest: httpx.AsyncClient


@asynccontextmanager
async def someone(backend: RunningSupabase) -> AsyncGenerator[Someone]:
    """A person with a fresh account."""
    person = backend.sign_up()

    async def token() -> str:
        return str(person["access_token"])

    headers = {"apikey": backend.publishable_key, "Authorization": f"Bearer {await token()}"}
    async with (
        httpx.AsyncClient(trust_env=False, timeout=10) as http,
        httpx.AsyncClient(base_url=f"{backend.url}/rest/v1", headers=headers, trust_env=False) as rest,
    ):
        access = SupabaseAccess(url=backend.url, publishable_key=backend.publishable_key, http=http)
        user_id = str(person["user"]["id"])
        yield Someone(
            id=user_id, desk=Desk(access, user_id, token), secrets=SecretDesk(access, token), rest=rest
        )


async def test_a_secret_leaves_the_page_sealed_and_comes_back_to_nobody(
    embedded_supabase: RunningSupabase,
) -> None:
    worker = PlayedWorker(backend=embedded_supabase)
    private = await worker.publish_key()
    async with someone(embedded_supabase) as owner, someone(embedded_supabase) as stranger:
        await owner.secrets.save("GITHUB_TOKEN", ["API.github.com"], "ghp_canary_0123456789", raw=False)
        [row] = await owner.secrets.secrets()
        assert (row.name, row.hosts, row.raw, row.last_used_at) == (
            "GITHUB_TOKEN",
            ("api.github.com",),
            False,
            None,
        )
        assert row.usable(["api.github.com", "a.example.org"]) == ("api.github.com",)
        found = await worker.http.get("/rest/v1/secrets", params={"user_id": f"eq.{owner.id}"})
        [stored] = found.json()
        assert vault.unseal(private, stored["ciphertext"]) == "ghp_canary_0123456789"
        assert "canary" not in found.text
        assert (await owner.rest.get("/secrets", params={"select": "ciphertext"})).status_code >= 400
        assert await stranger.secrets.secrets() == ()
        await stranger.secrets.remove(row.id)
        assert [one.name for one in await owner.secrets.secrets()] == ["GITHUB_TOKEN"]
        await owner.secrets.save("GITHUB_TOKEN", ["a.example.org"], "another_value", raw=True)
        [row] = await owner.secrets.known()
        assert (row.hosts, row.raw) == (("a.example.org",), True)
        await owner.secrets.remove(row.id)
        assert await owner.secrets.known() == ()
    await worker.close()


@pytest.mark.parametrize(
    ("name", "hosts", "value", "sentence"),
    [
        ("PATH", ["a.example.org"], "long enough", "PATH is read by the system itself"),
        ("lower", ["a.example.org"], "long enough", "Name the secret like an environment variable"),
        ("TOKEN", [], "long enough", "Name at least one host"),
        ("TOKEN", ["*.example.org"], "long enough", "has a wildcard"),
        ("TOKEN", ["a.example.org"], "", "The value is empty"),
    ],
)
async def test_why_a_secret_is_refused_is_said(
    embedded_supabase: RunningSupabase, name: str, hosts: list[str], value: str, sentence: str
) -> None:
    worker = PlayedWorker(backend=embedded_supabase)
    await worker.publish_key()
    async with someone(embedded_supabase) as owner:
        with pytest.raises(InvalidInputError, match=sentence):
            await owner.secrets.save(name, hosts, value, raw=False)
        assert await owner.secrets.secrets() == ()
    await worker.close()


async def test_a_thread_is_begun_with_its_hosts_before_its_first_task_can_be_claimed(
    embedded_supabase: RunningSupabase,
) -> None:
    worker = PlayedWorker(backend=embedded_supabase)
    async with someone(embedded_supabase) as owner, someone(embedded_supabase) as stranger:
        thread_id = await owner.desk.begin_thread(ASSISTANT_ID, ["api.github.com"])
        task = await owner.desk.enqueue(
            "Read my issues", dedupe_key="h", thread_id=thread_id, limits={"seconds": 60}
        )
        claimed = await worker.claim_whole(task.id)
        assert claimed["hosts"] == ["api.github.com"]
        assert claimed["limits"] == {"seconds": 60}
        [thread] = await owner.desk.threads()
        assert (thread.title, thread.hosts) == ("Read my issues", ("api.github.com",))
        await owner.desk.allow(thread_id, ["a.example.org"])
        assert await owner.desk.allowed_hosts(thread_id) == ("a.example.org",)
        with pytest.raises(InvalidInputError, match="is an address"):
            await owner.desk.allow(thread_id, ["10.0.0.1"])
        with pytest.raises(InvalidInputError, match="This thread is gone"):
            await stranger.desk.allow(thread_id, ["evil.example.com"])
        assert await stranger.desk.allowed_hosts(thread_id) == ()
        with pytest.raises(InvalidInputError, match="The limit seconds is 0"):
            await owner.desk.enqueue("Never", dedupe_key="l", limits={"seconds": 0})
        assert await owner.desk.allowed_hosts(thread_id) == ("a.example.org",)
    await worker.close()
