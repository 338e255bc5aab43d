"""The page's own routes on a real server: cookie, live socket, sign-out. The database is away throughout."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from live.accounts import Accounts, Tokens
from live.guard import Guard, loopback_hosts
from live.hub import Hub
from live.routes import FEED_ENDED, SIGNED_OUT, file_name, page_routes
from live.rows import TaskRow
from live.runtime import PageRuntime, runtime, set_runtime
from live.sessions import SessionBook
from live.supabase_access import SupabaseAccess
from live.vault import Vault
from tests.acceptance.page_world import free_port

NOW = datetime(2026, 11, 20, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    page: PageRuntime
    http: httpx.AsyncClient

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.page.port}"

    async def signed_in(self) -> str:
        """Sign in; returns the Cookie header."""
        ticket = await self.page.book.open(
            Tokens(
                user_id="6f1c0000-0000-4000-8000-000000000001",
                email="me@example.org",
                access_token="token",
                refresh_token="refresh",
                expires_at=time.time() + 3600,
            )
        )
        answer = await self.http.post("/pa/claim", json={"ticket": ticket}, headers={"origin": self.origin})
        assert answer.status_code == 200
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "token" not in cookie
        return cookie.partition(";")[0]

    def socket(self, cookie: str | None, origin: str | None = None) -> connect:
        headers = {"Cookie": cookie} if cookie else {}
        return connect(
            f"ws://127.0.0.1:{self.page.port}/pa/live",
            additional_headers=headers,
            origin=origin or self.origin,  # pyright: ignore[reportArgumentType]  a NewType of str
        )


@asynccontextmanager
async def serving(home: Path) -> AsyncIterator[Served]:
    port, nowhere = free_port(), free_port()
    async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
        access = SupabaseAccess(
            url=f"http://127.0.0.1:{nowhere}", publishable_key="sb_publishable_x", http=http
        )
        accounts = Accounts(access)
        book = SessionBook(accounts, Vault(home))
        hub = Hub(access, book)
        ready = asyncio.Event()
        running = asyncio.create_task(hub.run(ready))
        await ready.wait()
        page = PageRuntime(
            loop=asyncio.get_running_loop(),
            accounts=accounts,
            book=book,
            hub=hub,
            local_user=None,
            port=port,
        )
        set_runtime(page)
        app = Starlette(
            routes=list(page_routes()), middleware=[Middleware(Guard, hosts=loopback_hosts(port))]
        )
        server = uvicorn.Server(
            uvicorn.Config(
                app, host="127.0.0.1", port=port, log_level="critical", lifespan="off", ws="websockets-sansio"
            )
        )
        serve = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield Served(page=page, http=client)
        server.should_exit = True
        await serve
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        set_runtime(None)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as made:
        yield made


async def heard(socket: ClientConnection) -> dict[str, Any]:
    return json.loads(await asyncio.wait_for(socket.recv(), 5))


async def test_a_ticket_is_needed_and_works_once(served: Served) -> None:
    for body in (b"", b"[]", b"{}", b'{"ticket": 3}', b'{"ticket": "guess"}', b"x" * 5000):
        answer = await served.http.post("/pa/claim", content=body, headers={"origin": served.origin})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    assert (await served.http.post("/pa/claim", json={"ticket": "x"})).status_code == 403


async def test_the_socket_tells_changes_and_nothing_to_strangers(served: Served) -> None:
    cookie = await served.signed_in()
    session = runtime().book.find(cookie.partition("=")[2])
    assert session is not None
    person = await served.page.hub.person(session)
    async with served.socket(cookie) as socket:
        for _ in range(100):
            if person.sockets:
                break
            await asyncio.sleep(0.01)
        person.feed.touch("task:5")
        found: dict[str, int] = {}
        while "task:5" not in found:
            found |= (await heard(socket))["numbers"]
        assert found["task:5"] == person.feed.number("task:5")
    for _ in range(100):
        if not person.sockets:
            break
        await asyncio.sleep(0.01)
    assert person.sockets == 0
    for wrong in ("http://evil.example", f"http://localhost:{free_port()}"):
        with pytest.raises(InvalidStatus):
            async with served.socket(cookie, origin=wrong):
                pass
    async with served.socket(None) as socket:
        with pytest.raises(ConnectionClosed):
            await heard(socket)
        assert socket.close_code == SIGNED_OUT


async def test_signing_out_closes_every_socket(served: Served) -> None:
    cookie = await served.signed_in()
    async with served.socket(cookie) as first, served.socket(cookie) as second:
        await asyncio.sleep(0.05)
        answer = await served.http.post("/pa/leave", headers={"origin": served.origin, "cookie": cookie})
        assert answer.status_code == 200
        assert "pa_sid_" in answer.headers["set-cookie"]
        for socket in (first, second):
            with pytest.raises(ConnectionClosed):
                while True:
                    await heard(socket)
            assert socket.close_code == SIGNED_OUT
    assert (await served.http.get("/pa/artifact/1", headers={"cookie": cookie})).status_code == 401


async def test_a_feed_that_fails_sends_its_pages_to_a_new_one(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookie = await served.signed_in()
    session = runtime().book.find(cookie.partition("=")[2])
    assert session is not None
    person = await served.page.hub.person(session)
    person.feed.put_task(
        TaskRow(id=5, thread_id=None, kind="task", prompt="p", state="queued", attempt=0, created_at=NOW)
    )

    async def broken(ids: Sequence[int]) -> tuple[TaskRow, ...]:
        raise ZeroDivisionError(str(ids))

    monkeypatch.setattr(person.desk, "tasks", broken)
    async with served.socket(cookie) as socket:
        await heard(socket)
        person.heard_task({"task_id": 5, "state": "running", "attempt": 1})
        with pytest.raises(ConnectionClosed):
            while True:
                await heard(socket)
        assert socket.close_code == FEED_ENDED
    again = await served.page.hub.person(session)
    assert again is not person
    async with served.socket(cookie) as socket:
        again.feed.touch("task:5")
        while "task:5" not in (await heard(socket))["numbers"]:
            pass
    assert person.sockets == 0


async def test_an_artifact_needs_a_session_and_a_database(served: Served) -> None:
    assert (await served.http.get("/pa/artifact/1")).status_code == 401
    cookie = await served.signed_in()
    assert (await served.http.get("/pa/artifact/1", headers={"cookie": cookie})).status_code == 503
    assert (await served.http.get("/pa/artifact/x", headers={"cookie": cookie})).status_code == 404


def test_names_of_downloads() -> None:
    assert file_name("a/b/c d.csv") == "c d.csv"
    assert file_name('x"\r\n.csv') == "x_.csv"
    assert file_name("..") == "file"
