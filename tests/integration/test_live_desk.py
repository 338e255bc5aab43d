"""What the page does with a person's rows and files, in a real database with a real Storage."""

from __future__ import annotations

import httpx
import pytest

from live.desk import Desk
from live.supabase_access import SupabaseAccess
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
        await worker.finish(claim, "1", "unverified")
        paths = [str(file["storage_path"]) for file in deleted] + [
            artifact.storage_path for artifact in await desk.artifacts([task.id])
        ]
        assert len(paths) == 3

        async def there(path: str) -> bool:
            answer = await worker.http.get(f"/storage/v1/object/artifacts/{path}")
            return answer.status_code == 200

        assert [await there(path) for path in paths] == [True, True, True]
        gone = await worker.http.request(
            "DELETE", "/storage/v1/object/artifacts", json={"prefixes": [paths[1]]}
        )
        assert gone.status_code == 200
        assert [await there(path) for path in paths] == [True, False, True]
        assert task.thread_id is not None
        await desk.delete_thread(task.thread_id)
        assert [await there(path) for path in paths] == [False, False, False]
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
