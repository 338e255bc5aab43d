"""PostgreSQL as a child process: socket only, peer authentication, fast to start and clean to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import time
from pathlib import Path
from urllib.parse import quote

from embedded_supabase import children, sql
from embedded_supabase.cluster import SUPERUSER, Cluster, clear_leftovers, create, explain

log = logging.getLogger(__name__)

START_SECONDS = 60.0
"""A start after a crash replays the log; a minute is ample for the 512 MB that `max_wal_size` allows."""

STOP_SECONDS = 20.0
POLL_SECONDS = 0.01
SHARED_MEMORY_BYTES = 256 << 20


def settings(cluster: Cluster) -> dict[str, str]:
    """Settings for a laptop; everything else is PostgreSQL's default, fsync above all."""
    return {
        "listen_addresses": "",
        "unix_socket_directories": f'"{cluster.sockets}"',
        "unix_socket_permissions": "0700",
        "shared_buffers": "64MB",
        "max_connections": "80",
        "max_wal_size": "512MB",
        "jit": "off",  # compiling costs more than these queries take
        "dynamic_shared_memory_type": _dynamic_shared_memory(),
        "log_min_messages": "warning",
        "log_line_prefix": "%m [%p] ",
        "timezone": "UTC",
    }


def _dynamic_shared_memory() -> str:
    # Containers have 64 MB in /dev/shm by default, which parallel queries outgrow.
    try:
        return "posix" if shutil.disk_usage("/dev/shm").free >= SHARED_MEMORY_BYTES else "mmap"  # noqa: S108
    except OSError:
        return "posix"


class Postgres:
    """One PostgreSQL server.

    Attributes:
        name: for messages.
        cluster: its folders.
        up: whether it accepts connections, as far as this process knows.
    """

    name = "PostgreSQL"

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.up = False
        self._process: asyncio.subprocess.Process | None = None

    @property
    def socket_folder(self) -> Path:
        """What clients give as `host`."""
        return self.cluster.sockets

    @property
    def url(self) -> str:
        """A connection string for this machine's owner."""
        return f"postgresql://{SUPERUSER}@/postgres?host={quote(str(self.cluster.sockets))}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Create the cluster if there is none, start the server and wait until it accepts connections.

        Raises:
            ConfigurationError: it cannot be started as things are; the sentence says what to change.
            StoreUnavailableError: it did not come up; the last lines of its log are in the message.
        """
        await create(self.cluster)
        await clear_leftovers(self.cluster)
        command = [str(self.cluster.binaries / "postgres"), "-D", str(self.cluster.data)]
        for key, value in settings(self.cluster).items():
            command += ["-c", f"{key}={value}"]
        self._process = await children.spawn(
            command,
            log=self.cluster.log,
            env={"PATH": str(self.cluster.binaries), "LC_ALL": "C", "TZ": "UTC"},
            at_parents_death=signal.SIGINT,
            account=self.cluster.account,
        )
        try:
            await self._until_ready(self._process)
        except BaseException:
            await self.stop()
            raise
        self.up = True

    async def _until_ready(self, process: asyncio.subprocess.Process) -> None:
        what = f"PostgreSQL did not start on {self.cluster.data}"
        deadline = time.monotonic() + START_SECONDS
        status = self.cluster.data / "postmaster.pid"
        while time.monotonic() < deadline:
            if process.returncode is not None:
                raise explain(what, children.tail(self.cluster.log))
            with contextlib.suppress(OSError, IndexError):
                lines = status.read_text().splitlines()
                if lines[0] == str(process.pid) and lines[7].strip() == "ready":
                    return
            await asyncio.sleep(POLL_SECONDS)
        raise explain(f"{what} within {START_SECONDS:.0f} s", children.tail(self.cluster.log))

    async def connect(self) -> sql.Session:
        """Open a connection with all rights.

        Raises:
            one of `sql.UNREACHABLE`.
        """
        return await sql.connect(str(self.cluster.sockets), SUPERUSER)

    async def wait(self) -> int:
        """Wait for the server's end, wanted or not; return its exit code."""
        if self._process is None:
            return 0
        code = await self._process.wait()
        self.up = False
        return code

    async def stop(self) -> None:
        """Stop the server: sessions are ended, data is written, the pid file is removed."""
        self.up = False
        if self._process is not None:
            await children.stop(self._process, signal.SIGINT, grace=STOP_SECONDS)
