"""Large files pass through gateway and lite without being held in memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.embedded_fixtures import SMALL_MIGRATIONS, RunningSupabase, running_supabase

MEGABYTE = 1 << 20
LARGE = 300 * MEGABYTE
MOST_MEMORY = 100 * MEGABYTE


@pytest.fixture(scope="module")
def supabase() -> Iterator[RunningSupabase]:
    with running_supabase("--migrations", str(SMALL_MIGRATIONS)) as made:
        yield made


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    block = bytes(range(256)) * (MEGABYTE // 256)
    with path.open("wb") as file:
        for number in range(LARGE // MEGABYTE):
            file.write(number.to_bytes(4, "big") + block[4:])
    return path


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@asynccontextmanager
async def measured(supabase: RunningSupabase) -> AsyncGenerator[dict[str, int]]:
    """How much more memory gateway and lite use at most, in bytes."""
    watched = {
        "gateway": psutil.Process(supabase.process.pid),
        "lite": psutil.Process(supabase.children["lite"]),
    }
    before = {name: process.memory_info().rss for name, process in watched.items()}
    grown = dict.fromkeys(watched, 0)

    async def watch() -> None:
        while True:
            for name, process in watched.items():
                grown[name] = max(grown[name], process.memory_info().rss - before[name])
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    try:
        yield grown
    finally:
        watching.cancel()


async def blocks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(MEGABYTE):
            yield block


@pytest.mark.parametrize("form", [True, False], ids=["form", "bare"])
async def test_a_large_file_goes_in_and_out_without_filling_memory(
    supabase: RunningSupabase, large: Path, form: bool
) -> None:
    address = f"/storage/v1/object/artifacts/person/uploads/{form}/large.bin"
    headers = {"apikey": supabase.secret_key, "authorization": f"Bearer {supabase.secret_key}"}
    async with (
        httpx.AsyncClient(base_url=supabase.url, headers=headers, timeout=120) as client,
        measured(supabase) as grown,
    ):
        if form:  # as the official clients send it
            with large.open("rb") as file:
                stored = await client.post(
                    address, files={"file": ("large.bin", file)}, data={"cacheControl": "3600"}
                )
        else:
            stored = await client.post(address, content=blocks(large))
        assert stored.status_code == 200, stored.text
        received = hashlib.sha256()
        async with client.stream("GET", address) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-length"] == str(LARGE)
            async for part in answer.aiter_bytes():
                received.update(part)
    assert received.hexdigest() == digest_of(large)
    assert max(grown.values()) < MOST_MEMORY, grown


def bucket_with_a_limit(supabase: RunningSupabase, name: str, size: int) -> None:
    made = httpx.post(
        f"{supabase.url}/storage/v1/bucket",
        json={"id": name, "name": name, "public": False, "file_size_limit": size},
        headers={"apikey": supabase.secret_key},
    )
    assert made.status_code == 200, made.text


@pytest.mark.parametrize(("size", "said"), [(100_000, None), (100_001, "413")])
def test_a_buckets_own_limit_holds_to_the_byte_for_forms(
    supabase: RunningSupabase, size: int, said: str | None
) -> None:
    bucket = f"small-{size}"
    bucket_with_a_limit(supabase, bucket, 100_000)
    stored = httpx.post(
        f"{supabase.url}/storage/v1/object/{bucket}/a.bin",
        files={"file": ("a.bin", bytes(size), "application/x-thing")},
        data={"cacheControl": "3600"},
        headers={"apikey": supabase.secret_key},
    )
    assert stored.json().get("statusCode") == said, stored.text


def test_a_form_that_is_cut_off_leaves_no_file(supabase: RunningSupabase) -> None:
    address = f"{supabase.url}/storage/v1/object/artifacts/person/uploads/cut/a.txt"
    headers = {"apikey": supabase.secret_key}
    body = b'--xx\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhalf'
    kind = {"content-type": "multipart/form-data; boundary=xx"}
    refused = httpx.post(address, content=body, headers=headers | kind)
    assert refused.status_code == 400 and "cut off" in refused.json()["message"]
    assert httpx.get(address, headers=headers).status_code in (400, 404)
    bare = httpx.post(address, content=b"--xx--\r\n", headers=headers | kind)
    assert bare.status_code == 400
    incoming = supabase.state / "lite" / "supabase" / ".temp" / "storage" / ".incoming"
    assert list(incoming.iterdir()) == []
