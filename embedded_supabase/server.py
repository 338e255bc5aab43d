"""The embedded Supabase as one object: PostgreSQL, lite, gateway, Realtime, Studio."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import httpx

from embedded_supabase import sql
from embedded_supabase.account import database_account
from embedded_supabase.cluster import SUPERUSER, prepare
from embedded_supabase.control import Control
from embedded_supabase.gateway.access import Access, loopback_hosts
from embedded_supabase.gateway.app import Gateway
from embedded_supabase.gateway.proxy import Proxy
from embedded_supabase.gateway.serving import listen_on_loopback, listen_on_unix, serve
from embedded_supabase.keys import Keys, LocalUser, load_or_create
from embedded_supabase.lite import Lite, LiteSettings
from embedded_supabase.liveness import Liveness
from embedded_supabase.migrations import bootstrap, migrate
from embedded_supabase.node import PACKAGE_FOLDER, ensure_packages, find_node, lock_digest
from embedded_supabase.postgres import Postgres
from embedded_supabase.realtime.channels import Hub
from embedded_supabase.realtime.database import MessageFeed
from embedded_supabase.realtime.socket import RealtimeSettings
from embedded_supabase.state import StateFolder
from embedded_supabase.studio import Studio, Tickets, control_note
from embedded_supabase.supervision import Tasks, keep_alive
from pythonic_assistant.domain.errors import StoreUnavailableError

log = logging.getLogger(__name__)

MIGRATIONS = PACKAGE_FOLDER.parent / "supabase" / "migrations"
UPLOAD_BYTES = 1 << 30
"""Of one file. It is streamed through to the disk; more than this belongs into resumable uploads."""

SETTLE_SECONDS = 20.0
STOP_SECONDS = 5.0


class EmbeddedSupabase:
    """A whole Supabase on this machine, for as long as it is entered.

    Children are restarted when they die; meanwhile the gateway answers 503 with `Retry-After`.
    """

    def __init__(
        self,
        *,
        state: Path,
        port: int = 0,
        migrations: Path = MIGRATIONS,
        origins: frozenset[str] = frozenset(),
        allow_public_channels: bool = False,
        upload_bytes: int = UPLOAD_BYTES,
    ) -> None:
        """Keep the settings.

        Args:
            state: folder of data, keys and logs; created with mode 0700.
            port: of the gateway on 127.0.0.1; 0 is any free one.
            migrations: folder of SQL files, applied at the start.
            origins: pages that may call from a browser, such as `http://localhost:5173`.
            allow_public_channels: whether Realtime channels without `private` may be joined.
            upload_bytes: the largest file that Storage takes.
        """
        self._state = StateFolder(state)
        self._port = port
        self._migrations = migrations
        self._origins = origins
        self._allow_public = allow_public_channels
        self._upload_bytes = upload_bytes
        self._stack = contextlib.AsyncExitStack()
        self._tickets = Tickets()
        self._studio_lock = asyncio.Lock()
        self._studio_url: str | None = None
        self._keys: Keys
        self._postgres: Postgres
        self._lite: Lite
        self._feed: MessageFeed
        self._tasks: Tasks

    @property
    def url(self) -> str:
        """What `create_client` takes as `supabase_url`."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def publishable_key(self) -> str:
        """The key for pages."""
        return self._keys.publishable_key

    @property
    def secret_key(self) -> str:
        """The key for workers: the role `service_role`."""
        return self._keys.secret_key

    @property
    def local_user(self) -> LocalUser:
        """The account of the person at this machine."""
        return self._keys.local_user

    @property
    def database_url(self) -> str:
        """A connection string with all rights; works for the owner of this process only."""
        return self._postgres.url

    @property
    def pids(self) -> Mapping[str, int | None]:
        """Process ids of the children, None for one that is down."""
        return {"postgres": self._postgres.pid, "lite": self._lite.pid}

    def health(self) -> dict[str, bool]:
        """Part → whether it works."""
        return {
            "postgres": self._postgres.up,
            "lite": self._lite.up,
            "realtime": self._feed.listening.is_set(),
        }

    async def __aenter__(self) -> EmbeddedSupabase:
        """Start everything; on return every part answers.

        Raises:
            ConfigurationError: something has to be changed first; the sentence says what.
            StoreUnavailableError: a part did not come up, or another process holds the state folder.
        """
        try:
            await self._start()
        except OSError as error:
            await self._stack.aclose()
            raise StoreUnavailableError(
                f"The embedded Supabase could not start on {self._state.path}: {error.strerror or error}."
            ) from error
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything; no process is left."""
        await self._stack.aclose()

    async def wait(self) -> None:
        """Wait until a part fails for good, and raise why; usually waits for ever."""
        await self._tasks.failure()

    async def _start(self) -> None:
        stack = self._stack
        state = stack.enter_context(self._state)
        listener = stack.enter_context(contextlib.closing(listen_on_loopback(self._port)))
        self._port = listener.getsockname()[1]
        self._keys = load_or_create(state.path / "keys.json")
        node = await asyncio.to_thread(find_node)
        await ensure_packages(node)

        self._postgres = Postgres(await asyncio.to_thread(prepare, state, database_account()))
        stack.push_async_callback(self._postgres.stop)
        await self._postgres.start()
        self._lite = Lite(
            LiteSettings(
                node=node,
                folder=state.path / "lite",
                socket=state.socket("lite.sock"),
                studio_socket=state.socket("studio.sock"),
                log=state.logs / "lite.log",
                database_socket_folder=self._postgres.socket_folder,
                keys=self._keys,
                url=self.url,
                upload_bytes=self._upload_bytes,
            ),
            migrate=self._migrate,
        )
        stack.push_async_callback(self._lite.stop)
        await self._bootstrap()
        await self._lite.start()
        (state.path / "lite" / "prepared").write_text(lock_digest())

        self._tasks = Tasks()
        stack.push_async_callback(self._tasks.close)
        self._tasks.start(keep_alive(self._postgres), "keep PostgreSQL alive")
        self._tasks.start(keep_alive(self._lite), "keep lite alive")
        await self._open(listener)
        await self._ensure_local_user()

    async def _bootstrap(self) -> None:
        connection = await self._postgres.connect()
        try:
            await bootstrap(connection)
            prepared = await connection.fetchval(
                "select to_regclass('auth.users') is not null and to_regclass('storage.objects') is not null"
            )
        finally:
            await connection.close()
        mark = self._state.path / "lite" / "prepared"
        self._lite.prepare = not (prepared and mark.is_file() and mark.read_text() == lock_digest())

    async def _migrate(self) -> None:
        try:
            connection = await self._postgres.connect()
            try:
                await bootstrap(connection)  # again: lite has put its own auth functions in place
                for migration in await migrate(connection, self._migrations):
                    log.info("applied the migration %s", migration.path.name)
            finally:
                await connection.close()
        except sql.UNREACHABLE as error:  # PostgreSQL was killed too, and is being started again
            raise StoreUnavailableError(
                f"PostgreSQL did not answer while the migrations were applied: {error}"
            ) from error

    async def _open(self, listener: socket.socket) -> None:
        stack = self._stack
        hub = Hub()
        self._feed = MessageFeed(self._postgres.connect, hub)
        self._tasks.start(self._feed.run(), "feed of messages")
        pool = await sql.create_pool(str(self._postgres.socket_folder), SUPERUSER, largest=4)
        stack.callback(pool.terminate)
        liveness = Liveness(self._lite.settings.socket, self._postgres.connect, self._lite.kill)
        self._tasks.start(liveness.run(), "liveness of lite")
        proxy = await stack.enter_async_context(
            Proxy(self._lite.settings.socket, name="Supabase Lite", on_suspicion=liveness.suspect)
        )
        hosts = loopback_hosts(self._port)
        access = Access(
            hosts=hosts,
            origins=self._origins | frozenset(f"http://{host}" for host in hosts),
            keys=self._keys,
        )
        gateway = Gateway(
            access=access,
            proxy=proxy,
            realtime=RealtimeSettings(hub=hub, access=access, pool=pool, allow_public=self._allow_public),
            health=self.health,
            upload_bytes=self._upload_bytes,
        )
        self._closing = asyncio.Event()
        serving = [self._tasks.start(serve(gateway, listener, self._closing), "gateway")]
        path = self._state.socket("control.sock")
        serving.append(
            self._tasks.start(
                serve(Control(self.studio_link), listen_on_unix(path), self._closing), "control"
            )
        )
        self._serving = serving
        stack.push_async_callback(self._close_listeners)
        note = control_note(self._state.path)
        note.touch(mode=0o600)
        note.write_text(json.dumps({"pid": os.getpid(), "url": self.url, "control": str(path)}))
        stack.callback(note.unlink, missing_ok=True)
        async with asyncio.timeout(SETTLE_SECONDS):
            await self._feed.listening.wait()

    async def _close_listeners(self) -> None:
        self._closing.set()
        await asyncio.wait(self._serving, timeout=STOP_SECONDS)

    async def _ensure_local_user(self) -> None:
        person = self._keys.local_user
        connection = await self._postgres.connect()
        try:
            known = await connection.fetchval("select 1 from auth.users where email = $1", person.email)
        finally:
            await connection.close()
        if known:
            return
        async with httpx.AsyncClient(timeout=30) as client:
            answer = await client.post(
                f"{self.url}/auth/v1/signup",
                json={"email": person.email, "password": person.password},
                headers={"apikey": self.publishable_key},
            )
        if answer.is_error:
            raise StoreUnavailableError(f"The account {person.email} could not be made: {answer.text[:300]}")

    async def studio_link(self) -> str:
        """A link to Studio that works once, for ten minutes; opens Studio's listener if need be."""
        async with self._studio_lock:
            if self._studio_url is None:
                listener = listen_on_loopback(0)
                port = int(listener.getsockname()[1])
                proxy = await self._stack.enter_async_context(
                    Proxy(self._lite.settings.studio_socket, name="Studio")
                )
                studio = Studio(self._tickets, proxy, port)
                self._serving.append(self._tasks.start(serve(studio, listener, self._closing), "studio"))
                self._studio_url = f"http://127.0.0.1:{port}"
        return f"{self._studio_url}/?ticket={self._tickets.mint()}"
