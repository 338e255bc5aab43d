"""Supabase's own REST, Auth and Storage in front of the embedded PostgreSQL, as a Node.js child."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from embedded_supabase import children
from embedded_supabase.keys import Keys
from embedded_supabase.node import PACKAGE_FOLDER, Node
from pythonic_assistant.domain.errors import StoreUnavailableError

START_SECONDS = 60.0
STOP_SECONDS = 5.0
TOKEN_SECONDS = 3600
"""Life of an access token, as on hosted Supabase."""

CONNECTIONS = 20
"""Of lite's pool; the other sixty of `max_connections` are for workers, the gateway and psql."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteSettings:
    """What lite needs to know.

    Attributes:
        node: who runs it.
        folder: its working folder; files of Storage are kept below it.
        socket: where REST, Auth and Storage shall listen.
        studio_socket: where Studio shall listen, with all rights.
        log: where its noise goes.
        database_socket_folder: of PostgreSQL.
        keys: the project's.
        url: what people's links in e-mails begin with.
        upload_bytes: the largest file that Storage takes.
    """

    node: Node
    folder: Path
    socket: Path
    studio_socket: Path
    log: Path
    database_socket_folder: Path
    keys: Keys
    url: str
    upload_bytes: int


def configuration(settings: LiteSettings) -> str:
    """The text of lite's config.toml; keys are not in it, they come through the environment."""
    return f"""# Written by embedded_supabase at every start.
[api]
schemas = ["public"]
max_rows = 1000

[db]
driver = "postgres"
url = "postgres:///postgres"

[auth]
enabled = true
site_url = "{settings.url}"
jwt_secret = "env(SUPABASE_AUTH_JWT_SECRET)"
publishable_key = "env(SUPABASE_PUBLISHABLE_KEY)"
secret_key = "env(SUPABASE_SECRET_KEY)"
jwt_expiry = {TOKEN_SECONDS}
enable_signup = true
minimum_password_length = 8

[auth.email]
enable_signup = true
enable_confirmations = false

[storage]
enabled = true
file_size_limit = "{settings.upload_bytes}B"
"""


class Lite:
    """One lite process.

    Attributes:
        name: for messages.
        up: whether both of its sockets listen, as far as this process knows.
    """

    name = "Supabase Lite"

    def __init__(self, settings: LiteSettings, *, migrate: Callable[[], Awaitable[None]]) -> None:
        """Keep what is needed to start.

        Args:
            settings: see there.
            migrate: awaited at every start between the auth and storage tables and the first request.
        """
        self.settings = settings
        self.prepare = True
        self.up = False
        self._migrate = migrate
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            ConfigurationError: Node.js cannot be started.
            StoreUnavailableError: it did not come up; the last lines of its log are in the message.
        """
        settings = self.settings
        config = settings.folder / "supabase" / "config.toml"
        settings.folder.mkdir(mode=0o700, exist_ok=True)  # files of Storage are in there
        config.parent.mkdir(mode=0o700, exist_ok=True)
        config.write_text(configuration(settings))
        for path in (settings.socket, settings.studio_socket):
            path.unlink(missing_ok=True)
        self._process = await children.spawn(
            [
                str(settings.node.programme),
                "--disable-warning=ExperimentalWarning",
                str(PACKAGE_FOLDER / "lite.mjs"),
            ],
            log=settings.log,
            env=self._environment(),
            at_parents_death=signal.SIGTERM,
            cwd=settings.folder,
            talks=True,
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._expect("prepared")
                await self._migrate()
                await self._say("serve")
                await self._expect("ready")
        except TimeoutError as error:
            await self.stop()
            raise StoreUnavailableError(
                f"Supabase Lite did not start within {START_SECONDS:.0f} s. Its last words:\n"
                f"{children.tail(settings.log)}"
            ) from error
        except BaseException:
            await self.stop()
            raise
        self.prepare = False
        self.up = True

    def _environment(self) -> dict[str, str]:
        settings = self.settings
        return {
            "PATH": f"{settings.node.programme.parent}{os.pathsep}/usr/bin:/bin",
            "HOME": str(settings.folder),
            "NODE_ENV": "production",
            "DO_NOT_TRACK": "1",
            "EXPERIMENTAL_STORAGE": "1",
            "LITE_SOCKET": str(settings.socket),
            "LITE_STUDIO_SOCKET": str(settings.studio_socket),
            "LITE_PREPARE": "1" if self.prepare else "0",
            "LITE_CONNECTIONS": str(CONNECTIONS),
            "PGHOST": str(settings.database_socket_folder),
            "PGUSER": "postgres",
            "SUPABASE_AUTH_JWT_SECRET": settings.keys.jwt_secret,
            "SUPABASE_PUBLISHABLE_KEY": settings.keys.publishable_key,
            "SUPABASE_SECRET_KEY": settings.keys.secret_key,
        }

    async def _expect(self, word: str) -> None:
        assert self._process is not None and self._process.stdout is not None
        line = await self._process.stdout.readline()
        if line.decode(errors="replace").strip() != word:
            raise StoreUnavailableError(
                f"Supabase Lite did not start. Its last words:\n{children.tail(self.settings.log, 15)}"
            )

    async def _say(self, word: str) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        await self._process.stdin.drain()

    async def wait(self) -> int:
        """Wait for its end, wanted or not; return its exit code."""
        if self._process is None:
            return 0
        code = await self._process.wait()
        self.up = False
        return code

    async def stop(self) -> None:
        """Stop it; requests under way are cut off."""
        self.up = False
        if self._process is not None:
            await children.stop(self._process, signal.SIGTERM, grace=STOP_SECONDS)

    def kill(self) -> None:
        """End it at once, because it does not answer; whoever waits for it starts it again."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
